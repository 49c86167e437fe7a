//! The chest of one patient: shapes in body coordinates.
//!
//! Body coordinates: x from -1 (left of the film, the patient's right) to 1, y from -1 (neck) to 1 (abdomen).
//! One unit is about 17 cm. `out` is the distance from the midline towards a side (-1 or 1), never negative
//! inside that side's lung.

use super::draws::Draws;

/// The lateral wall is at full width from this part of the lung's height on.
const APEX_PART: f32 = 0.55;

/// One patient's anatomy, before findings change it.
#[derive(Clone, Debug)]
pub(crate) struct Anatomy {
    /// 0 slender, 1 obese.
    pub habitus: f32,
    /// Strength of the breast shadows, 0 for none.
    pub breast: f32,
    /// Half of the inner width of the thorax.
    pub half_width: f32,
    /// y of the lungs' apices.
    pub apex: f32,
    /// y of the tops of the right (index 0, left of the film) and left dome.
    pub domes: [f32; 2],
    /// Half of the width of the upper mediastinum.
    pub mediastinum: f32,
    /// Heart width over thorax width, while healthy.
    pub cardiothoracic_ratio: f32,
    /// Height of the heart relative to the usual.
    pub heart_height: f32,
    /// Radius of the aortic knob.
    pub knob: f32,
    /// Distance between ribs.
    pub rib_spacing: f32,
    /// y of the first posterior rib at the spine.
    pub rib_start: f32,
    /// How far posterior ribs descend on their way out.
    pub rib_slope: f32,
    /// Sideways bend of the spine.
    pub scoliosis: f32,
    /// Gas under the left dome: (out, below the dome, radius), if any.
    pub bubble: Option<(f32, f32, f32)>,
    /// Chooses the patient's vessels.
    pub vessels: u64,
}

impl Anatomy {
    pub fn draw(draws: &mut Draws) -> Self {
        let habitus = draws.uniform(0.0, 1.0);
        let female = draws.chance(0.5);
        let dome = draws.normal(0.42, 0.045) - 0.06 * habitus;
        Anatomy {
            habitus,
            breast: if female { draws.uniform(0.02, 0.10) + 0.06 * habitus } else { 0.0 },
            half_width: draws.normal(0.79, 0.03),
            apex: draws.normal(-0.74, 0.025),
            domes: [dome - draws.uniform(0.02, 0.07), dome],
            mediastinum: draws.normal(0.115, 0.012) + 0.015 * habitus,
            cardiothoracic_ratio: draws.normal(0.438, 0.02) + 0.012 * habitus,
            heart_height: draws.normal(1.0, 0.05),
            knob: draws.normal(0.075, 0.01),
            rib_spacing: draws.normal(0.135, 0.006),
            rib_start: draws.normal(-0.70, 0.015),
            rib_slope: draws.normal(0.12, 0.03),
            scoliosis: draws.normal(0.0, 0.012),
            bubble: draws
                .chance(0.6)
                .then(|| (draws.uniform(0.28, 0.48), draws.uniform(0.08, 0.14), draws.uniform(0.04, 0.09))),
            vessels: draws.count(0, u32::MAX as usize) as u64,
        }
    }
}

/// The thorax of one film: the anatomy, as breath and findings have changed it.
#[derive(Clone, Debug)]
pub(crate) struct Thorax {
    pub half_width: f32,
    pub apex: f32,
    pub domes: [f32; 2],
    pub mediastinum: f32,
    /// Sideways displacement of heart and mediastinum.
    pub shift: f32,
    pub heart: Heart,
}

/// The heart's outline: an ellipse, wider towards the left side of the body.
#[derive(Clone, Debug)]
pub(crate) struct Heart {
    pub x: f32,
    pub y: f32,
    pub half_width: f32,
    pub half_height: f32,
    /// Sine and cosine of the tilt.
    pub tilt: (f32, f32),
}

/// Where a point lies relative to one lung. Distances are positive inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InLung {
    /// Distance from the midline towards this lung's side.
    pub out: f32,
    /// 0 at the apex, 1 at the top of the dome.
    pub height: f32,
    /// Distance from the lateral and apical chest wall.
    pub wall: f32,
    /// Distance from the mediastinum.
    pub medial: f32,
    /// Height above the diaphragm.
    pub floor: f32,
}

impl InLung {
    /// Distance from the nearest border.
    pub fn depth(&self) -> f32 {
        self.wall.min(self.medial).min(self.floor)
    }
}

/// Index of a side (-1 or 1) in pairs.
pub(crate) fn index(side: f32) -> usize {
    usize::from(side > 0.0)
}

impl Thorax {
    /// Distance of the lateral wall from the midline at a height.
    pub fn lateral(&self, height: f32) -> f32 {
        const APEX_OUT: f32 = 0.33;
        let full = self.half_width * (0.84 + 0.16 * height.clamp(0.0, 1.3));
        let rise = 1.0 - (height / APEX_PART).clamp(0.0, 1.0);
        APEX_OUT + (full - APEX_OUT) * (1.0 - rise * rise * rise.sqrt()).max(0.0).sqrt()
    }

    /// Distance of the mediastinal border from the midline at a height.
    fn medial(&self, height: f32) -> f32 {
        let rise = 1.0 - (height / 0.22).clamp(0.0, 1.0);
        0.33 - (0.33 - self.mediastinum) * (1.0 - rise * rise).max(0.0).sqrt()
    }

    /// y of the diaphragm at a distance from the midline: flat under the heart, steep at the chest wall. The two
    /// domes meet smoothly at the midline.
    pub fn diaphragm(&self, side: f32, out: f32) -> f32 {
        let u = (out - 0.36) / 0.45;
        let bend = if u > 0.0 { 0.20 * u * u + 0.10 * (u * u) * (u * u) } else { 0.07 * u * u };
        let (own, other) = (self.domes[index(side)], self.domes[index(-side)]);
        let mixed = 0.5 * (1.0 - (out / 0.22).clamp(0.0, 1.0)).powi(2);
        own + (other - own) * mixed + bend
    }

    /// y from which on there is abdomen: the diaphragm, but level outside the lung.
    pub fn abdomen(&self, side: f32, out: f32) -> f32 {
        self.diaphragm(side, out.clamp(0.0, 0.74))
    }

    /// The height of a point over the whole lung, 0 at the apex and 1 at the top of the dome.
    pub fn height(&self, side: f32, y: f32) -> f32 {
        (y - self.apex) / (self.domes[index(side)] - self.apex)
    }

    /// Where (x, y) lies relative to the lung on `side`.
    pub fn locate(&self, side: f32, x: f32, y: f32) -> InLung {
        let out = side * x;
        let height = self.height(side, y);
        // Horizontal distance near the steep wall, vertical distance over the apex: the smaller of the two.
        let wall = (self.lateral(height) - out).min(1.1 * (y - self.apex) + 0.01);
        InLung {
            out,
            height,
            wall,
            medial: side * (x - self.shift) - self.medial(height),
            floor: self.diaphragm(side, out) - y,
        }
    }

    /// Signed depth inside the heart, in body units; negative outside.
    pub fn heart_depth(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.heart.x, y - self.heart.y);
        let (sine, cosine) = self.heart.tilt;
        let (u, v) = (dx * cosine + dy * sine, dy * cosine - dx * sine);
        let (u, v) = (u / self.heart.half_width, v / self.heart.half_height);
        let ventricles = (1.0 - (u * u + v * v).sqrt()) * self.heart.half_height.min(self.heart.half_width);
        // The great vessels and the right atrium stand on the ventricles.
        let (u, v) =
            ((x - self.shift - 0.015) / (self.mediastinum + 0.045), (y - self.heart.y + 0.20) / 0.30);
        let root = (1.0 - (u * u + v * v).sqrt()) * (self.mediastinum + 0.045);
        ventricles.max(root)
    }
}
