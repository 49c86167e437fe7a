//! Matrix products of strided views.

use gemm::Parallelism;

/// A matrix in a slice: element `(i, j)` is `values[i * row + j * column]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub column: usize,
}

impl<'a> View<'a> {
    /// Rows of `stride` values.
    pub fn rows(values: &'a [f32], stride: usize) -> Self {
        Self { values, row: stride, column: 1 }
    }

    /// The same memory, transposed.
    pub fn transposed(self) -> Self {
        Self { values: self.values, row: self.column, column: self.row }
    }

    fn covers(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.row + (columns - 1) * self.column < self.values.len()
    }
}

/// `out = a b`, or `out += a b` if `add`; `a` is `m x k`, `b` is `k x n`, `out` has rows of `stride` values.
///
/// # Panics
///
/// Panics if a matrix does not fit into its slice.
pub(crate) fn product(
    [m, k, n]: [usize; 3],
    a: View<'_>,
    b: View<'_>,
    out: &mut [f32],
    stride: usize,
    add: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.covers(m, k) && b.covers(k, n), "matrices fit into their slices");
    assert!((m - 1) * stride + n <= out.len() && (m == 1 || stride >= n), "the product fits into its slice");
    #[allow(unsafe_code, reason = "the library's only entry point takes pointers")]
    // SAFETY: the assertions above bound every index that the three views reach; `out` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.values.as_ptr(),
            b.column as isize,
            b.row as isize,
            f32::from(u8::from(add)),
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [1.0, 0.0, 2.0, 1.0, 0.0, 3.0];
        let mut out = [10.0; 4];
        product([2, 3, 2], View::rows(&a, 3), View::rows(&b, 2), &mut out, 2, false);
        assert_eq!(out, [5.0, 11.0, 14.0, 23.0]);
        product([2, 3, 2], View::rows(&a, 3), View::rows(&b, 2), &mut out, 2, true);
        assert_eq!(out, [10.0, 22.0, 28.0, 46.0]);
        // a^T a, 3 x 3, of which two columns are kept
        let mut out = [0.0; 6];
        product([3, 2, 2], View::rows(&a, 3).transposed(), View::rows(&a, 3), &mut out, 2, false);
        assert_eq!(out, [17.0, 22.0, 22.0, 29.0, 27.0, 36.0]);
    }
}
