//! The instruction sets, which of them this process uses, and plain bodies compiled for each.

use std::sync::OnceLock;

/// Instruction sets that kernels are compiled for, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The instruction set that this process uses, found once.
///
/// What the processor offers, or less if the environment variable `VEILRAY_SIMD` says `avx2` or `portable`: for tests and for
/// finding out whether a fault lies in a vector unit. It can only lower the choice, never enter code that the processor
/// does not have.
#[inline]
pub(crate) fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let most = match std::env::var("VEILRAY_SIMD").as_deref() {
            Ok("portable") => Isa::Baseline,
            #[cfg(target_arch = "x86_64")]
            Ok("avx2") => Isa::Avx2,
            _ => return offered(),
        };
        offered().min(most)
    })
}

#[cfg(target_arch = "x86_64")]
fn offered() -> Isa {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
    {
        Isa::Avx512
    } else if is_x86_feature_detected!("avx2") {
        Isa::Avx2
    } else {
        Isa::Baseline
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn offered() -> Isa {
    Isa::Baseline
}

/// The instruction set that the inner loops use in this process: `AVX-512`, `AVX2` or `portable`.
pub fn instruction_set() -> &'static str {
    match isa() {
        Isa::Baseline => "portable",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => "AVX2",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => "AVX-512",
    }
}

/// Whether transforms should be the portable ones too: those of the library choose their instruction set themselves.
pub(crate) fn portable_only() -> bool {
    isa() == Isa::Baseline && offered() != Isa::Baseline
}

/// Functions with one plain Rust body each, compiled for AVX-512, for AVX2 and for the target's baseline, and chosen at run time.
macro_rules! compiled {
    ($( $(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block )*) => { $(
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) {
                    body($($arg),*);
                }
                match $crate::kernels::isa::isa() {
                    // SAFETY: the processor was just found to have every feature that this copy is compiled for.
                    $crate::kernels::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the processor was just found to have AVX2.
                    $crate::kernels::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::isa::Isa::Baseline => {}
                }
            }
            #[allow(unreachable_code)]
            body($($arg),*)
        }
    )* };
}
pub(super) use compiled;
