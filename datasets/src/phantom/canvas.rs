//! Pixels and body coordinates, and soft shapes on a layer of pixels.

/// How the body lies on the film.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pose {
    pub shift: (f32, f32),
    /// Sine and cosine of the rotation.
    pub rotation: (f32, f32),
    pub scale: f32,
}

impl Pose {
    /// Film coordinates (-1 to 1) to body coordinates.
    pub fn to_body(self, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = (x - self.shift.0, y - self.shift.1);
        let (sine, cosine) = self.rotation;
        ((x * cosine + y * sine) / self.scale, (y * cosine - x * sine) / self.scale)
    }

    /// Body coordinates to film coordinates.
    pub fn to_film(self, x: f32, y: f32) -> (f32, f32) {
        let (sine, cosine) = self.rotation;
        let (x, y) = (x * self.scale, y * self.scale);
        (x * cosine - y * sine + self.shift.0, x * sine + y * cosine + self.shift.1)
    }
}

/// A layer of lines, `side x side`; where lines cross, the stronger one shows.
pub(crate) struct Layer {
    side: usize,
    pose: Pose,
    pub values: Vec<f32>,
}

impl Layer {
    pub fn new(side: usize, pose: Pose) -> Self {
        Layer { side, pose, values: vec![0.0; side * side] }
    }

    /// A straight line between two points of the body, `width` body units wide. A line thinner than a pixel
    /// is drawn a pixel wide and fainter, as a detector sees it.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, strength: f32) {
        let half_side = self.side as f32 / 2.0;
        let pixel = |point: (f32, f32)| {
            let (x, y) = self.pose.to_film(point.0, point.1);
            ((x + 1.0) * half_side - 0.5, (y + 1.0) * half_side - 0.5)
        };
        let ((x0, y0), (x1, y1)) = (pixel(from), pixel(to));
        let wanted = width * self.pose.scale * half_side / 2.0;
        let half = wanted.max(0.5);
        let strength = strength * (wanted / half).min(1.0);
        let last = self.side as f32 - 1.0;
        let reach = half + 0.5;
        let range = |a: f32, b: f32| {
            let low = (a.min(b) - reach).ceil().max(0.0);
            let high = (a.max(b) + reach).floor().min(last);
            (low <= high).then_some((low as usize, high as usize))
        };
        let (Some((left, right)), Some((top, bottom))) = (range(x0, x1), range(y0, y1)) else { return };
        let (dx, dy) = (x1 - x0, y1 - y0);
        let squared = (dx * dx + dy * dy).max(1e-6);
        for row in top..=bottom {
            for column in left..=right {
                let (px, py) = (column as f32 - x0, row as f32 - y0);
                let along = ((px * dx + py * dy) / squared).clamp(0.0, 1.0);
                let (ex, ey) = (px - along * dx, py - along * dy);
                let cover = (reach - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0);
                let value = &mut self.values[row * self.side + column];
                *value = value.max(strength * cover);
            }
        }
    }
}

/// 0 below `-softness`, 1 above `softness`, smooth between.
pub(crate) fn step(distance: f32, softness: f32) -> f32 {
    let t = (0.5 + 0.5 * distance / softness).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A smooth bump: 1 at 0, 0 from 1 on.
pub(crate) fn bump(distance: f32) -> f32 {
    let t = (1.0 - distance * distance).max(0.0);
    t * t
}

/// Smooth noise in about [-1, 1], one knot per unit, chosen by `seed`.
pub(crate) fn smooth_noise(x: f32, y: f32, seed: u32) -> f32 {
    let (x0, y0) = (x.floor(), y.floor());
    let (u, v) = (x - x0, y - y0);
    let (u, v) = (u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v));
    let knot = |dx: i32, dy: i32| {
        let mut h = seed
            ^ (x0 as i32 + dx).cast_unsigned().wrapping_mul(0x9e37_79b1)
            ^ (y0 as i32 + dy).cast_unsigned().wrapping_mul(0x85eb_ca77);
        h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
        h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
        (h >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    let top = knot(0, 0) * (1.0 - u) + knot(1, 0) * u;
    let bottom = knot(0, 1) * (1.0 - u) + knot(1, 1) * u;
    top * (1.0 - v) + bottom * v
}
