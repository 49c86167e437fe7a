//! Columns: for each output position, the input values that its window sees.
//!
//! Columns of a strip of output rows are a matrix with a row per (channel, window row, window column) and a column per
//! output position. A convolution is the weights times this matrix.

use crate::window::Window;

/// A convolution of one image and one group of channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub kernel: [usize; 2],
    pub window: Window,
    pub out: [usize; 2],
}

/// The most values in a strip's columns: 256 KiB, a fraction of a core's second-level cache.
const STRIP_VALUES: usize = 1 << 16;

impl Geometry {
    /// That of images of shape `x` with weights of shape `weight`.
    pub fn new(window: Window, x: [usize; 4], weight: [usize; 4]) -> Self {
        let [_, channels, height, width] = x;
        let [top, left, bottom, right] = window.padding;
        let out = |side: usize, padding: usize, kernel: usize, stride: usize| {
            (side + padding).checked_sub(kernel).map_or(0, |free| free / stride + 1)
        };
        Self {
            channels: channels / window.groups,
            height,
            width,
            kernel: [weight[2], weight[3]],
            window,
            out: [
                out(height, top + bottom, weight[2], window.stride[0]),
                out(width, left + right, weight[3], window.stride[1]),
            ],
        }
    }

    /// Rows of the columns' matrix.
    pub fn depth(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// Positions of an output image.
    pub fn positions(&self) -> usize {
        self.out[0] * self.out[1]
    }

    /// Values of the input of a group.
    pub fn values(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Output rows in a strip.
    pub fn strip(&self) -> usize {
        (STRIP_VALUES / (self.depth() * self.out[1]).max(1)).clamp(1, self.out[0].max(1))
    }

    /// The output columns for which the window column `kx` lies inside the image.
    fn inside(&self, kx: usize) -> std::ops::Range<usize> {
        let [_, stride] = self.window.stride;
        let left = self.window.padding[1];
        let first = left.saturating_sub(kx).div_ceil(stride).min(self.out[1]);
        let end = (self.width + left).saturating_sub(kx).div_ceil(stride).clamp(first, self.out[1]);
        first..end
    }

    /// The image row that output row `y` sees with window row `ky`, if it lies inside the image.
    fn image_row(&self, y: usize, ky: usize) -> Option<usize> {
        let row = (y * self.window.stride[0] + ky).checked_sub(self.window.padding[0])?;
        (row < self.height).then_some(row)
    }

    /// Writes the columns of output rows `from..to` of an image.
    pub fn gather(&self, image: &[f32], from: usize, to: usize, columns: &mut [f32]) {
        let [out_width, stride] = [self.out[1], self.window.stride[1]];
        let mut lines = columns.chunks_exact_mut(out_width);
        for channel in image.chunks_exact(self.height * self.width).take(self.channels) {
            for ky in 0..self.kernel[0] {
                for kx in 0..self.kernel[1] {
                    let inside = self.inside(kx);
                    for (y, line) in (from..to).zip(&mut lines) {
                        let Some(row) = self.image_row(y, ky) else {
                            line.fill(0.0);
                            continue;
                        };
                        let row = &channel[row * self.width..][..self.width];
                        line[..inside.start].fill(0.0);
                        line[inside.end..].fill(0.0);
                        if inside.is_empty() {
                            continue;
                        }
                        let first = inside.start * stride + kx - self.window.padding[1];
                        let line = &mut line[inside.clone()];
                        if stride == 1 {
                            line.copy_from_slice(&row[first..first + line.len()]);
                        } else {
                            for (value, seen) in line.iter_mut().zip(row[first..].iter().step_by(stride)) {
                                *value = *seen;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Adds columns of output rows `from..to` back to where they were gathered.
    pub fn scatter(&self, columns: &[f32], from: usize, to: usize, image: &mut [f32]) {
        let [out_width, stride] = [self.out[1], self.window.stride[1]];
        let mut lines = columns.chunks_exact(out_width);
        for channel in image.chunks_exact_mut(self.height * self.width).take(self.channels) {
            for ky in 0..self.kernel[0] {
                for kx in 0..self.kernel[1] {
                    let inside = self.inside(kx);
                    for (y, line) in (from..to).zip(&mut lines) {
                        let Some(row) = self.image_row(y, ky) else { continue };
                        if inside.is_empty() {
                            continue;
                        }
                        let row = &mut channel[row * self.width..][..self.width];
                        let first = inside.start * stride + kx - self.window.padding[1];
                        let line = &line[inside.clone()];
                        if stride == 1 {
                            for (sum, value) in row[first..first + line.len()].iter_mut().zip(line) {
                                *sum += value;
                            }
                        } else {
                            for (sum, value) in row[first..].iter_mut().step_by(stride).zip(line) {
                                *sum += value;
                            }
                        }
                    }
                }
            }
        }
    }
}
