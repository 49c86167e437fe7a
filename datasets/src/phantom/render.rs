//! From anatomy and findings to a picture.
//!
//! Everything is added up as optical thickness, about 0 in air, 0.25 in lung, 0.6 to 0.9 in soft tissue and more
//! in bone, and then exposed: `film = gain * thickness^gamma + offset + noise`.

use super::anatomy::{Anatomy, Heart, InLung, Thorax, index};
use super::canvas::{Layer, Pose, bump, smooth_noise, step};
use super::draws::Draws;
use super::findings::Findings;
use crate::Film;

const SIDES: [f32; 2] = [-1.0, 1.0];

/// A round or lobed opacity.
struct Blob {
    x: f32,
    y: f32,
    radius: f32,
    strength: f32,
    /// Strength and phase of the lobes of its outline.
    lobes: f32,
    phase: f32,
    softness: f32,
}

impl Blob {
    fn opacity(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let distance = (dx * dx + dy * dy).sqrt();
        if distance > self.radius * (1.0 + self.lobes) + self.softness {
            return 0.0;
        }
        let angle = dy.atan2(dx);
        let outline = 1.0
            + self.lobes
                * (0.6 * (3.0 * angle + self.phase).sin() + 0.4 * (5.0 * angle - 2.0 * self.phase).sin());
        self.strength * step(self.radius * outline - distance, self.softness)
    }
}

/// A patch of consolidated lung: fuzzy outline, cloudy inside.
struct Patch {
    side: f32,
    out: f32,
    y: f32,
    radii: (f32, f32),
    strength: f32,
    seed: u32,
}

impl Patch {
    fn opacity(&self, side: f32, lung: InLung, y: f32) -> f32 {
        if side != self.side {
            return 0.0;
        }
        let (u, v) = ((lung.out - self.out) / self.radii.0, (y - self.y) / self.radii.1);
        let distance = (u * u + v * v).sqrt();
        if distance > 1.6 {
            return 0.0;
        }
        let clouds = smooth_noise(lung.out * 9.0, y * 9.0, self.seed);
        let grain = smooth_noise(lung.out * 24.0, y * 24.0, self.seed ^ 0x5bd1);
        self.strength * step(1.0 + 0.35 * clouds - distance, 0.35) * (0.88 + 0.12 * grain)
    }
}

/// Fluid on one side.
struct Fluid {
    side: f32,
    /// y of the level far from the chest wall.
    level: f32,
    /// How far the meniscus rises at the chest wall.
    rise: f32,
}

/// Air around one lung.
struct Air {
    side: f32,
    gap: f32,
}

/// Everything that has been settled before the pixels are visited.
struct Scene<'a> {
    anatomy: &'a Anatomy,
    thorax: Thorax,
    blobs: Vec<Blob>,
    patches: Vec<Patch>,
    fluids: Vec<Fluid>,
    air: Option<Air>,
    edema: f32,
    /// Haze at the base of a lung that lost volume: (side, strength).
    collapse: Option<(f32, f32)>,
    /// Overall density of the lungs: breath and habitus.
    lung_density: f32,
    /// Low frequencies that make no two lungs equally grey.
    mottle: u32,
    /// Half a pixel, in body units: the softness of a sharp edge.
    sharp: f32,
}

/// Draws one film.
pub(crate) fn render(anatomy: &Anatomy, findings: &Findings, draws: &mut Draws, side: usize) -> Film {
    let pose = draw_pose(draws);
    let scene = Scene::draw(anatomy, findings, draws, 1.0 / (side as f32 * pose.scale));
    let vessels = draw_vessels(&scene, side, pose, draws);
    let lines = draw_lines(&scene, findings, side, pose, draws);

    let mut thickness = Vec::with_capacity(side * side);
    let half_side = side as f32 / 2.0;
    for row in 0..side {
        for column in 0..side {
            let film_x = (column as f32 + 0.5) / half_side - 1.0;
            let film_y = (row as f32 + 0.5) / half_side - 1.0;
            let (x, y) = pose.to_body(film_x, film_y);
            let place = row * side + column;
            thickness.push(scene.thickness(x, y, vessels.values[place], lines.values[place]));
        }
    }
    expose(thickness, side, draws)
}

fn draw_pose(draws: &mut Draws) -> Pose {
    Pose {
        shift: (draws.normal(0.0, 0.02), draws.normal(0.0, 0.02)),
        rotation: draws.normal(0.0, 0.025).sin_cos(),
        scale: draws.normal(1.0, 0.03),
    }
}

impl<'a> Scene<'a> {
    fn draw(anatomy: &'a Anatomy, findings: &Findings, draws: &mut Draws, sharp: f32) -> Self {
        let breath = draws.normal(0.0, 0.025);
        let mut domes = anatomy.domes.map(|dome| dome + breath);
        let mut shift = draws.normal(0.0, 0.012);
        let mut collapse = None;
        if let Some(loss) = findings.atelectasis {
            domes[index(loss.side)] -= 0.07 + 0.14 * loss.severity;
            shift += loss.side * (0.02 + 0.05 * loss.severity);
            collapse = Some((loss.side, 0.18 + 0.35 * loss.severity));
        }
        if let Some(air) = findings.pneumothorax.filter(|air| air.severity > 0.75) {
            shift -= air.side * 0.05; // tension pushes the mediastinum away
        }
        let ratio = match findings.cardiomegaly {
            Some(severity) => 0.525 + 0.11 * severity,
            None => anatomy.cardiothoracic_ratio.min(0.49),
        };
        let thorax = Thorax {
            half_width: anatomy.half_width + 0.15 * breath,
            apex: anatomy.apex,
            domes,
            mediastinum: anatomy.mediastinum,
            shift,
            heart: heart(anatomy, ratio, domes[1].max(domes[0]), shift),
        };
        let mut scene = Scene {
            anatomy,
            thorax,
            blobs: Vec::new(),
            patches: Vec::new(),
            fluids: Vec::new(),
            air: findings.pneumothorax.map(|air| Air { side: air.side, gap: 0.06 + 0.16 * air.severity }),
            edema: findings.edema.map_or(0.0, |severity| 0.28 + 0.42 * severity),
            collapse,
            lung_density: 0.21 + 0.05 * anatomy.habitus - 0.4 * breath + draws.normal(0.0, 0.015),
            mottle: draws.count(0, u32::MAX as usize) as u32,
            sharp,
        };
        for fluid in &findings.effusions {
            let angle = scene.thorax.diaphragm(fluid.side, scene.thorax.lateral(1.1));
            let depth = 0.05 + 0.50 * fluid.severity * fluid.severity + 0.08 * fluid.severity;
            let rise = 0.10 + 0.12 * fluid.severity;
            scene.fluids.push(Fluid { side: fluid.side, level: angle - depth, rise });
        }
        for patch in &findings.consolidations {
            let (out, y) = scene.place(patch.side, 0.10, draws);
            let radius = 0.17 + 0.13 * patch.severity;
            scene.patches.push(Patch {
                side: patch.side,
                out,
                y,
                radii: (radius * draws.uniform(0.8, 1.1), radius * draws.uniform(0.8, 1.2)),
                strength: 0.38 + 0.42 * patch.severity,
                seed: draws.count(0, u32::MAX as usize) as u32,
            });
        }
        if let Some(mass) = findings.mass {
            let (out, y) = scene.place(mass.side, 0.12, draws);
            scene.blobs.push(Blob {
                x: mass.side * out,
                y,
                radius: 0.105 + 0.07 * mass.severity,
                strength: draws.uniform(0.55, 0.9),
                lobes: draws.uniform(0.08, 0.2),
                phase: draws.uniform(0.0, 6.3),
                softness: 0.025,
            });
        }
        for nodule in &findings.nodules {
            let (out, y) = scene.place(nodule.side, 0.06, draws);
            scene.blobs.push(Blob {
                x: nodule.side * out,
                y,
                radius: 0.045 + 0.03 * nodule.severity,
                strength: draws.uniform(0.45, 0.85),
                lobes: 0.08,
                phase: draws.uniform(0.0, 6.3),
                softness: 0.025,
            });
        }
        scene
    }

    /// A point inside the lung on `side`, at least `margin` from its borders and clear of the heart.
    fn place(&self, side: f32, margin: f32, draws: &mut Draws) -> (f32, f32) {
        let bottom = self.thorax.diaphragm(side, 0.4);
        let mut best = (0.45, 0.0);
        for _ in 0..24 {
            let (out, y) = (draws.uniform(0.15, 0.75), draws.uniform(self.thorax.apex + 0.15, bottom));
            let lung = self.thorax.locate(side, side * out, y);
            if lung.depth() > margin && self.thorax.heart_depth(side * out, y) < -0.5 * margin {
                best = (out, y);
                break;
            }
        }
        best
    }

    /// Optical thickness at a point of the body.
    fn thickness(&self, x: f32, y: f32, vessel: f32, line: f32) -> f32 {
        let side = if x < self.thorax.shift { -1.0 } else { 1.0 };
        let lung = self.thorax.locate(side, x, y);
        let trunk = self.trunk(x, y, side);
        let inside = step(lung.depth(), self.sharp + 0.012);
        let mut t = trunk;
        if inside > 0.0 {
            t += (self.lung(x, y, side, lung, trunk, vessel) - trunk) * inside;
        }
        let heart = step(self.thorax.heart_depth(x, y), self.sharp + 0.018);
        if heart > 0.0 {
            let dense = 0.74 + 0.05 * step(self.thorax.heart_depth(x, y) - 0.1, 0.1);
            t += (dense.max(t) - t) * heart;
        }
        t += self.bones(x, y, side, lung, inside);
        t + line
    }

    /// Soft tissue without lungs and bones.
    fn trunk(&self, x: f32, y: f32, side: f32) -> f32 {
        let a = self.anatomy;
        let out = x.abs();
        // Outline: neck, sloping shoulders, chest wall below the arms.
        let neck = 0.20 + 0.05 * a.habitus;
        let slope = ((out - neck) / 0.75).clamp(0.0, 1.0);
        let shoulder = y - (-1.02 + 0.12 * slope + 0.16 * slope * slope) - 0.10 * bump((out - neck) / 0.16);
        let wall = self.thorax.half_width + 0.08 + 0.13 * a.habitus;
        let below_arm = step(y + 0.25, 0.25);
        let flank = wall + 0.9 * (1.0 - below_arm) - out;
        let body =
            step((if out < neck { flank.max(0.1) } else { shoulder.min(flank) }) * 1.0, 0.03 + self.sharp);
        // Thicker towards the middle of the trunk, thinner at the flank.
        let round = (1.0 - (out / (wall + 0.25)).powi(2)).max(0.0).sqrt();
        let mut t = 0.34 + 0.06 * a.habitus + 0.28 * round;
        // Mediastinum and abdomen.
        let medial = step(self.thorax.mediastinum + 0.02 - (x - self.thorax.shift).abs(), 0.04);
        t += 0.10 * medial * step(y + 0.95, 0.2);
        let below = y - self.thorax.abdomen(side, out);
        if below > -0.05 {
            t += (0.10 + 0.09 * a.habitus) * step(below, 0.05);
            if let Some((bubble_out, depth, radius)) = a.bubble.filter(|_| side > 0.0) {
                let below = below - depth;
                let across = (x - bubble_out) / 1.8;
                t -= 0.22 * step(radius - (below * below + across * across).sqrt(), 0.03);
            }
        }
        // Trachea, and the aortic knob beside it.
        let trachea = (x - self.thorax.shift * 0.7).abs();
        t -= 0.10 * step(0.045 - trachea, 0.02) * step(-0.22 - y, 0.06);
        let (kx, ky) = (x - self.thorax.shift - self.thorax.mediastinum - 0.01, y + 0.30);
        t += 0.06 * step(a.knob - (kx * kx + ky * ky).sqrt(), 0.02);
        // Breasts lie over the lower lungs.
        if a.breast > 0.0 {
            t += a.breast * self.breast(out, y);
        }
        t * body
    }

    fn breast(&self, out: f32, y: f32) -> f32 {
        let (u, v) = ((out - 0.47) / 0.36, (y - 0.26) / if y < 0.26 { 0.38 } else { 0.20 });
        bump((u * u + v * v).sqrt())
    }

    /// Lung with what is in it.
    fn lung(&self, x: f32, y: f32, side: f32, lung: InLung, tissue: f32, vessel: f32) -> f32 {
        let mottle = smooth_noise(x * 3.5, y * 3.5, self.mottle);
        let mut aerated = self.lung_density + 0.012 * mottle + 0.03 * step(lung.height - 0.75, 0.5);
        if self.anatomy.breast > 0.0 {
            aerated += self.anatomy.breast * self.breast(lung.out, y);
        }
        // The chest wall in front and behind is thicker near the edge of the lung, where it curves.
        aerated += 0.06 * bump(lung.wall / 0.14);
        let mut clear = 1.0; // what is left of the aerated lung: the product of all transparencies
        let mut vessels = vessel;
        for patch in &self.patches {
            clear *= 1.0 - patch.opacity(side, lung, y);
        }
        for blob in &self.blobs {
            clear *= 1.0 - blob.opacity(x, y);
        }
        if self.edema > 0.0 {
            let (u, v) = ((lung.out - 0.24) / 0.34, (y + 0.02) / 0.44);
            let wing = bump((u * u + v * v).sqrt() * 0.8) * (1.0 + 0.25 * mottle);
            clear *= 1.0 - self.edema * wing.clamp(0.0, 1.0) - 0.06 * self.edema;
        }
        if let Some((_, strength)) = self.collapse.filter(|(which, _)| *which == side) {
            clear *= 1.0 - strength * bump(lung.floor / 0.26) * step(0.62 - lung.out, 0.25);
        }
        for fluid in self.fluids.iter().filter(|fluid| fluid.side == side) {
            let near_wall = (1.0 - (lung.wall / 0.30).min(1.0)).powi(2);
            let surface = fluid.level - fluid.rise * near_wall + 0.04 * bump(lung.medial / 0.1);
            clear *= 1.0 - 0.93 * step(y - surface, 0.035 + self.sharp);
        }
        let mut pleura = 0.0;
        if let Some(air) = self.air.as_ref().filter(|air| air.side == side) {
            let gap = air.gap * (1.35 - 0.75 * lung.height).clamp(0.35, 1.35);
            let outside = step(gap - lung.wall, self.sharp + 0.004);
            vessels *= 1.0 - outside;
            aerated += 0.03 * (1.0 - outside) - 0.085 * outside;
            pleura = 0.10 * step(0.008 + self.sharp - (lung.wall - gap).abs(), self.sharp + 0.004);
        }
        let dense = tissue.max(0.62);
        aerated = (aerated + vessels).max(0.05) + pleura;
        dense + (aerated.min(dense) - dense) * clear
    }

    /// Ribs, spine, clavicles and shoulder blades; `inside` is 1 within the lung.
    fn bones(&self, x: f32, y: f32, side: f32, lung: InLung, inside: f32) -> f32 {
        let a = self.anatomy;
        let mut t = 0.0;
        let bend = a.scoliosis * (2.2 * y).sin();
        let spine = step(0.085 - (x - bend).abs(), 0.02 + self.sharp);
        let discs = 0.75 + 0.25 * (std::f32::consts::TAU * y / 0.125).cos();
        t += 0.07 * spine * discs;

        let reach = step(lung.wall + 0.035, 0.02) * step(y + 0.80, 0.05) * step(0.75 - y, 0.2);
        if reach > 0.0 {
            let u = (lung.out / self.thorax.half_width).clamp(0.0, 1.1);
            // Posterior ribs leave the spine nearly level and fall towards the wall; the lower the steeper.
            let fall = a.rib_slope * (1.0 + 0.8 * lung.height) * u * u - 0.05 * (3.0 * u).sin();
            t += reach
                * self.rib(y - a.rib_start - fall, 0.024)
                * (0.075 + 0.02 * inside)
                * step(lung.out - 0.05, 0.02);
            // Anterior ribs fall steeply towards the middle and fade into cartilage.
            let front = 0.30 + 0.42 * (1.0 - u) + 0.10 * (1.0 - u) * (1.0 - u);
            t += reach * self.rib(y - a.rib_start - front, 0.028) * 0.04 * step(u - 0.45, 0.2);
        }
        // Clavicles: a shallow S from the breast bone to the shoulder.
        let out = side * (x - self.thorax.shift * 0.5);
        let line = -0.60 - 0.16 * out + 0.05 * (5.0 * (out - 0.1)).sin();
        t += 0.09
            * step(0.026 - (y - line).abs(), 0.010 + self.sharp)
            * step(out - 0.06, 0.03)
            * step(0.85 - out, 0.05);
        // The inner edge of the shoulder blade and the head of the humerus.
        let blade = out - (0.70 + 0.12 * (y + 0.4));
        t += 0.05 * step(blade, 0.03) * step(0.2 - blade, 0.1) * step(0.05 - y, 0.1) * step(y + 0.75, 0.1);
        let (hx, hy) = (out - 0.95, y + 0.72);
        t += 0.10 * step(0.13 - (hx * hx + hy * hy).sqrt(), 0.03);
        t
    }

    /// The profile of the nearest rib: brighter at its lower edge.
    fn rib(&self, along: f32, half: f32) -> f32 {
        let spacing = self.anatomy.rib_spacing;
        let number = (along / spacing).round().clamp(0.0, 10.0);
        let off = along - number * spacing;
        step(half - off.abs(), 0.008 + self.sharp) * (0.85 + 0.35 * (off / half).clamp(-1.0, 1.0))
    }
}

/// The heart for a cardiothoracic ratio: a third lies right of the midline, the apex points down and left.
fn heart(anatomy: &Anatomy, ratio: f32, dome: f32, shift: f32) -> Heart {
    let width = ratio * 2.0 * anatomy.half_width;
    let half_height = (0.225 + 0.32 * (ratio - 0.44)) * anatomy.heart_height;
    Heart {
        x: shift + 0.165 * width,
        y: dome + 0.045 - half_height * 0.90,
        half_width: width / 2.0,
        half_height,
        tilt: 0.36f32.sin_cos(),
    }
}

/// The pulmonary vessels: trees from both hila, thinning and fading outward. The tree is the patient's own.
fn draw_vessels(scene: &Scene<'_>, side: usize, pose: Pose, draws: &mut Draws) -> Layer {
    let mut layer = Layer::new(side, pose);
    let mut tree = Draws::new(scene.anatomy.vessels, "vessels", 0);
    let engorged = 1.0 + 0.9 * scene.edema;
    let strength = draws.uniform(0.9, 1.1) * engorged;
    for which in SIDES {
        let hilum = (
            which * (scene.thorax.mediastinum + 0.05) + scene.thorax.shift,
            if which < 0.0 { -0.03 } else { -0.07 },
        );
        let down = (hilum.0 + which * 0.05, hilum.1 + 0.22);
        layer.line(hilum, down, 0.075, 0.15 * strength);
        layer.line((hilum.0, hilum.1 - 0.08), hilum, 0.08, 0.13 * strength);
        for branch in 0..11 {
            let angle = -1.45 + 2.9 * (branch as f32 + 0.5) / 11.0 + tree.normal(0.0, 0.08);
            let from = if branch < 6 { hilum } else { (hilum.0 + which * 0.04, hilum.1 + 0.12) };
            let length = tree.uniform(0.38, 0.62);
            let bend = tree.normal(0.0, 0.6);
            draw_branch(
                &mut layer,
                &mut tree,
                from,
                which,
                angle,
                bend,
                length,
                0.034 * engorged.sqrt(),
                strength,
                2,
            );
        }
    }
    layer
}

#[expect(clippy::too_many_arguments, reason = "a recursive walk: its arguments are its state")]
fn draw_branch(
    layer: &mut Layer,
    tree: &mut Draws,
    from: (f32, f32),
    side: f32,
    angle: f32,
    bend: f32,
    length: f32,
    width: f32,
    strength: f32,
    generations: usize,
) {
    const PIECES: usize = 5;
    let mut at = from;
    for piece in 0..PIECES {
        let part = piece as f32 / PIECES as f32;
        let (sine, cosine) = (angle + bend * part).sin_cos();
        let to = (at.0 + side * cosine * length / PIECES as f32, at.1 + sine * length / PIECES as f32);
        layer.line(at, to, width * (1.0 - 0.7 * part), 0.125 * strength * (1.0 - 0.65 * part));
        if generations > 0 && (piece == 1 || piece == 3) {
            let turn = tree.side() * tree.uniform(0.35, 0.75);
            let shorter = length * tree.uniform(0.40, 0.60);
            let bend = tree.normal(0.0, 0.5);
            let (thin, faint) = (width * 0.6, strength * 0.75);
            draw_branch(layer, tree, to, side, angle + turn, bend, shorter, thin, faint, generations - 1);
        }
        at = to;
    }
}

/// Lines that lie over everything: plates of collapsed lung, Kerley lines, fissures, and now and then a cable.
fn draw_lines(scene: &Scene<'_>, findings: &Findings, side: usize, pose: Pose, draws: &mut Draws) -> Layer {
    let mut layer = Layer::new(side, pose);
    let thorax = &scene.thorax;
    if let Some(loss) = findings.atelectasis {
        for plate in 0..draws.count(1, 2) {
            let y = thorax.domes[index(loss.side)] - 0.07 - 0.11 * plate as f32 - draws.uniform(0.0, 0.05);
            let from = draws.uniform(0.22, 0.32);
            let to = from + draws.uniform(0.22, 0.36);
            let slope = draws.normal(0.0, 0.06);
            let strength = 0.12 + 0.12 * loss.severity;
            layer.line((loss.side * from, y + slope), (loss.side * to, y - slope), 0.030, strength);
        }
    }
    if scene.edema > 0.0 {
        for which in SIDES {
            for line in 0..4 {
                let y = 0.08 + 0.055 * line as f32 + draws.uniform(-0.01, 0.01);
                let wall = thorax.lateral(thorax.height(which, y));
                let strength = 0.05 + 0.10 * scene.edema;
                layer.line((which * (wall - 0.11), y), (which * (wall - 0.015), y), 0.012, strength);
            }
        }
    }
    // The horizontal fissure of the right lung; thick with fluid in heart failure.
    let fissure = draws.uniform(-0.02, 0.05);
    let wall = thorax.lateral(thorax.height(-1.0, fissure));
    let strength = 0.03 + 0.10 * scene.edema;
    layer.line((-0.30, fissure), (0.02 - wall, fissure + draws.normal(0.0, 0.02)), 0.010, strength);
    if draws.chance(0.12) {
        let x = draws.uniform(-0.5, 0.5);
        let to = x + draws.normal(0.0, 0.3);
        layer.line((x, -1.2), (to, draws.uniform(-0.2, 0.6)), 0.016, 0.18);
    }
    layer
}

/// Exposure, collimation and noise.
fn expose(thickness: Vec<f32>, side: usize, draws: &mut Draws) -> Film {
    let gain = draws.normal(1.12, 0.09);
    let offset = draws.normal(-0.07, 0.02);
    let gamma = draws.normal(1.05, 0.10);
    let noise = draws.uniform(0.006, 0.022);
    let tilt = (draws.normal(0.0, 0.02), draws.normal(0.0, 0.02));
    let mut pixels = thickness;
    let half_side = side as f32 / 2.0;
    for (row, line) in pixels.chunks_exact_mut(side).enumerate() {
        let y = (row as f32 + 0.5) / half_side - 1.0;
        for (column, pixel) in line.iter_mut().enumerate() {
            let x = (column as f32 + 0.5) / half_side - 1.0;
            let uneven = 1.0 + tilt.0 * x + tilt.1 * y;
            let exposed = gain * uneven * pixel.max(0.0).powf(gamma) + offset;
            // The shoulder of the film's curve: dense tissue keeps some contrast instead of clipping.
            *pixel = if exposed > 0.7 { 0.7 + 0.3 * (1.0 - (-(exposed - 0.7) / 0.3).exp()) } else { exposed };
        }
    }
    for pair in pixels.chunks_mut(2) {
        let (a, b) = draws.standard_pair();
        for (pixel, grain) in pair.iter_mut().zip([a, b]) {
            *pixel = (*pixel + noise * grain).clamp(0.0, 1.0);
        }
    }
    Film { height: side, width: side, pixels }
}
