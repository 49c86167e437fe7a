//! A step on several devices at once: data parallelism on one machine.
//!
//! Batch `i` of a step goes to device `i mod n`, where a copy of the network makes its gradients, side by side with the other
//! devices; then they are brought to the first device and added up in the order of the batches, and the optimizer takes its step there.
//! This is what Burn's own strategy `MultiDeviceOptim::OptimMainDevice` does (burn-train 0.22,
//! `learner/supervised/strategies/multi`), with the same operations of Burn: `Module::fork` and `GradientsParams::to_device`.
//! Burn's collective operations (`burn::tensor::distributed`) exist for CUDA and remote devices alone and reduce in an order that
//! is not said; here a step is the same sum on any number of devices, so that a run may go on with more or fewer of them.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Result, TrainError, config::RunConfig, devices::Precision, progress::Progress};

/// The devices of a run, each but the first with a thread of its own that lasts as long as the run: GPU backends keep a queue and
/// memory for every thread that calls them.
pub(crate) struct Workers {
    devices: Vec<Device>,
    threads: Vec<ThreadPool>,
    precision: Precision,
}

type Task<'a> = Box<dyn FnOnce() + Send + 'a>;

impl Workers {
    /// The devices that the configuration names, with gradients. Those that would have nothing to do in a step of `parts` batches
    /// are left out, and it says so.
    ///
    /// # Errors
    ///
    /// A device cannot be used, or the system gives no thread.
    pub fn new(run: &RunConfig, parts: usize, listener: &dyn Progress) -> Result<Self> {
        let mut devices = run.device.open()?.into_iter().map(Device::autodiff).collect::<Vec<_>>();
        if let Some(idle @ 1..) = devices.len().checked_sub(parts) {
            listener.note(&format!(
                "{idle} of {} devices have nothing to do: a step has {parts} batches (accumulate)",
                devices.len()
            ));
            devices.truncate(parts);
        }
        let thread = |_| {
            ThreadPoolBuilder::new().num_threads(1).build().map_err(|error| TrainError::Io {
                file: "run.device".into(),
                action: "start a thread for each device",
                source: std::io::Error::other(error),
            })
        };
        let threads = (1..devices.len()).map(thread).collect::<Result<_>>()?;
        Ok(Self { devices, threads, precision: run.precision })
    }

    /// Where the optimizer is.
    pub fn main(&self) -> &Device {
        &self.devices[0]
    }

    /// What every device needs a copy of, in the order of [`Workers::of`].
    ///
    /// # Errors
    ///
    /// As `make`.
    pub fn equip<T>(&self, make: impl FnMut(&Device) -> Result<T>) -> Result<Vec<T>> {
        self.devices.iter().map(make).collect()
    }

    /// Which of the devices takes a batch of a step, the main one being 0.
    pub fn of(&self, part: usize) -> usize {
        part % self.devices.len()
    }

    /// The device that takes a batch of a step.
    pub fn device_of(&self, part: usize) -> &Device {
        &self.devices[self.of(part)]
    }

    /// Does the work of each of so many batches, one a device at a time.
    ///
    /// `prepare` is called on this thread and says what a batch on a device needs; `work` is called on the device's thread, its
    /// products of the run's type; `take` is called on this thread with what came out, in the order of the batches.
    ///
    /// # Errors
    ///
    /// As `take`; later batches are then not looked at.
    pub fn each<I: Send, O: Send, E>(
        &self,
        parts: usize,
        mut prepare: impl FnMut(usize, &Device) -> I,
        work: impl Fn(usize, I) -> O + Sync,
        mut take: impl FnMut(usize, O) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        for first in (0..parts).step_by(self.devices.len()) {
            let round = first..parts.min(first + self.devices.len());
            let inputs = round.clone().map(|part| prepare(part, self.device_of(part))).collect::<Vec<_>>();
            let mut outputs = round.clone().map(|_| None).collect::<Vec<_>>();
            let (work, products) = (&work, self.precision.products());
            let tasks =
                round.clone().zip(inputs).zip(&mut outputs).map(|((part, input), output)| -> Task<'_> {
                    Box::new(move || *output = Some(products.within(|| work(part, input))))
                });
            side_by_side(&self.threads, tasks.collect());
            for (part, output) in round.zip(outputs) {
                if let Some(output) = output {
                    take(part, output)?;
                }
            }
        }
        Ok(())
    }
}

/// Runs the first task on this thread and the others on one thread each.
fn side_by_side(threads: &[ThreadPool], mut tasks: Vec<Task<'_>>) {
    let Some(task) = tasks.pop() else { return };
    match tasks.len().checked_sub(1) {
        Some(thread) => threads[thread].in_place_scope(|scope| {
            scope.spawn(|_| task());
            side_by_side(threads, tasks);
        }),
        None => task(),
    }
}

/// A copy of a network on a device, with the same parameters by their ids, and with running statistics of its own: a plain clone
/// shares them with the network.
pub(crate) fn replica<M: Module>(net: &M, device: &Device) -> M {
    net.valid().train().fork(device)
}

/// The running statistics of a network, which no gradient moves, in the order of its layers.
pub(crate) fn statistics<M: Module>(net: &M) -> Vec<Tensor<1>> {
    struct Read(Vec<Tensor<1>>);
    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if !value.is_require_grad() {
                let count = value.shape().num_elements();
                self.0.push(value.inner().reshape([count]));
            }
        }
    }
    // Folds into them what the last forward pass left, whose result is not needed.
    drop(net.valid());
    let mut read = Read(Vec::new());
    net.visit(&mut read);
    read.0
}

/// The network with the running statistics of its copies: their mean, weighted by the shares of a step that they saw.
pub(crate) fn remember<M: Module>(net: M, copies: Vec<(f64, Vec<Tensor<1>>)>, device: &Device) -> M {
    struct Write(std::vec::IntoIter<Tensor<1>>);
    impl ModuleMapper for Write {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if param.val().is_require_grad() {
                return param;
            }
            let next = self.0.next();
            param.map(|old| next.map_or(old.clone(), |new| new.reshape(old.shape()).autodiff()))
        }
    }
    let device = device.clone().without_autodiff();
    let here =
        |copy: Vec<Tensor<1>>| copy.into_iter().map(|value| value.to_device(&device)).collect::<Vec<_>>();
    let means = match <[_; 1]>::try_from(copies) {
        Ok([(_, only)]) => here(only),
        // Means of differences, so that statistics that no copy moved stay the same to the last bit.
        Err(copies) => {
            let before = statistics(&net);
            copies.into_iter().fold(before.clone(), |sums, (share, copy)| {
                let moved = here(copy).into_iter().zip(&before);
                let moved = moved.map(|(copy, before)| (copy - before.clone()).mul_scalar(share));
                sums.into_iter().zip(moved).map(|(sum, moved)| sum + moved).collect()
            })
        }
    };
    if means.is_empty() { net } else { net.map(&mut Write(means.into_iter())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig};

    fn workers(devices: usize, parts: usize) -> Workers {
        let run = RunConfig {
            dir: "unused".into(),
            seed: 0,
            device: crate::devices::DeviceNames::Several(vec!["flex".into(); devices]),
            precision: Precision::F32,
        };
        Workers::new(&run, parts, &()).unwrap()
    }

    /// Every batch is worked on once, on its device's thread, beside the others of its round, and taken in order.
    #[test]
    fn batches_are_shared_out_and_taken_in_order() {
        for (devices, parts) in [(1, 3), (2, 5), (3, 3), (4, 2)] {
            let workers = workers(devices, parts);
            assert_eq!(workers.devices.len(), devices.min(parts), "nobody is idle");
            let meet = std::sync::Barrier::new(devices.min(parts));
            let mut taken = Vec::new();
            let result = workers.each(
                parts,
                |part, _| part * 10,
                |part, input| {
                    // Nobody passes alone: the full rounds run side by side.
                    if part < parts / devices * devices || devices > parts {
                        meet.wait();
                    }
                    (input, std::thread::current().id())
                },
                |part, (input, thread)| {
                    assert_eq!(input, part * 10);
                    taken.push(thread);
                    Ok::<_, ()>(())
                },
            );
            assert_eq!((result, taken.len()), (Ok(()), parts));
            for (part, thread) in taken.iter().enumerate() {
                assert_eq!(*thread, taken[workers.of(part)], "a device keeps its thread");
                assert_eq!(*thread == std::thread::current().id(), workers.of(part) == 0);
            }
        }
    }

    #[test]
    fn an_error_ends_the_step() {
        let mut taken = 0;
        let result = workers(2, 6).each(
            6,
            |part, _| part,
            |_, part| part,
            |_, part| {
                taken += 1;
                if part == 2 { Err(part) } else { Ok(()) }
            },
        );
        assert_eq!((result, taken), (Err(2), 3));
    }

    fn norm(device: &Device) -> BatchNorm {
        BatchNormConfig::new(2).init(device)
    }

    fn values(net: &BatchNorm) -> Vec<f32> {
        statistics(net)
            .into_iter()
            .flat_map(|value| value.into_data().iter::<f32>().collect::<Vec<_>>())
            .collect()
    }

    /// A copy's forward pass leaves the network alone until it is told.
    #[test]
    fn running_statistics_are_the_mean_of_the_copies() {
        let device = Device::flex().autodiff();
        let net = norm(&device);
        let film = |value: f32| Tensor::<4>::full([3, 2, 2, 2], value, &device);
        let seen = [1.0, 5.0].map(|value| {
            let copy = replica(&net, &device);
            let _ = copy.forward(film(value));
            statistics(&copy)
        });
        assert_eq!(values(&net), [0.0, 0.0, 1.0, 1.0]);
        // Momentum 0.1: a mean of 1 or 5, a variance of 0.
        let [one, five] = seen;
        let net = remember(net, vec![(0.25, one), (0.75, five)], &device);
        for (found, expected) in values(&net).into_iter().zip([0.4, 0.4, 0.9, 0.9]) {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
        assert!(net.gamma.val().is_require_grad() && !net.running_mean.value().is_require_grad());
        let before = values(&net);
        let still = (0..3).map(|_| (0.1, statistics(&net))).collect();
        assert_eq!(values(&remember(net, still, &device)), before, "nothing moved");
    }

    /// One copy is what a forward pass of the network itself would have left, to the last bit.
    #[test]
    fn one_copy_is_the_network_itself() {
        let device = Device::flex().autodiff();
        let film = Tensor::<4>::random([3, 2, 4, 4], burn::tensor::Distribution::Normal(0.3, 1.7), &device);
        let (own, net) = (norm(&device), norm(&device));
        let _ = own.forward(film.clone());
        let copy = replica(&net, &device);
        let _ = copy.forward(film);
        let seen = statistics(&copy);
        assert_eq!(values(&remember(net, vec![(1.0, seen)], &device)), values(&own));
    }
}
