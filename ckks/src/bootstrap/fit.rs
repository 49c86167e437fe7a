//! Weighted least squares in the Chebyshev basis.

/// What a fit should be at one place, and how much that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// In [-1, 1].
    pub(crate) x: f64,
    /// The value wanted.
    pub(crate) value: f64,
    /// Factor of the error.
    pub(crate) weight: f64,
}

/// The Chebyshev coefficients c that minimise the sum of (weight (series(x) - value))^2 over the points, plus that of
/// (ridge c)^2: Householder triangulation with rows sorted by weight and columns exchanged, which is stable row by row
/// however much weights differ (Cox and Higham, Stability of Householder QR factorization for weighted least squares
/// problems, 1998).
pub(crate) fn least_squares(mut points: Vec<Point>, columns: usize, ridge: f64) -> Vec<f64> {
    points.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let mut rows: Vec<Vec<f64>> = points
        .iter()
        .map(|&Point { x, value, weight }| {
            let mut row = vec![1.0, x];
            (2..columns).for_each(|k| row.push(2.0 * x * row[k - 1] - row[k - 2]));
            row.truncate(columns);
            row.push(value);
            row.iter_mut().for_each(|v| *v *= weight);
            row
        })
        .collect();
    if ridge > 0.0 {
        rows.extend((0..columns).map(|k| (0..=columns).map(|i| if i == k { ridge } else { 0.0 }).collect()));
    }
    let mut order: Vec<usize> = (0..columns).collect();
    for step in 0..columns.min(rows.len()) {
        let norm = |k: usize| rows[step..].iter().map(|row| row[k] * row[k]).sum::<f64>();
        let pivot = (step..columns).max_by(|&a, &b| norm(a).total_cmp(&norm(b))).unwrap_or(step);
        rows.iter_mut().for_each(|row| row.swap(step, pivot));
        order.swap(step, pivot);
        // The largest entry first, as row-wise stability asks.
        let first = (step..rows.len()).max_by(|&a, &b| rows[a][step].abs().total_cmp(&rows[b][step].abs()));
        rows.swap(step, first.unwrap_or(step));
        reflect(&mut rows[step..], step);
    }
    let mut solution = vec![0.0; columns];
    for step in (0..columns.min(rows.len())).rev() {
        let known: f64 = (step + 1..columns).map(|k| rows[step][k] * solution[order[k]]).sum();
        solution[order[step]] = (rows[step][columns] - known) / rows[step][step];
    }
    solution
}

/// One Householder reflection that clears a column below the first row.
fn reflect(rows: &mut [Vec<f64>], column: usize) {
    let norm = rows.iter().map(|row| row[column] * row[column]).sum::<f64>().sqrt();
    if norm == 0.0 {
        return;
    }
    let diagonal = if rows[0][column] > 0.0 { -norm } else { norm };
    let mut mirror: Vec<f64> = rows.iter().map(|row| row[column]).collect();
    mirror[0] -= diagonal;
    let square: f64 = mirror.iter().map(|m| m * m).sum();
    for k in column..rows[0].len() {
        let product: f64 = mirror.iter().zip(rows.iter()).map(|(m, row)| m * row[k]).sum();
        let factor = 2.0 * product / square;
        rows.iter_mut().zip(&mirror).for_each(|(row, m)| row[k] -= factor * m);
    }
}
