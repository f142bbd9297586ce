//! The frame that all kernels for special instructions share: the type, the detection of
//! the instructions, and the [`Kernel`](super::Kernel) implementation.

#[cfg(target_arch = "aarch64")]
pub(super) use std::arch::is_aarch64_feature_detected as is_detected;
#[cfg(target_arch = "x86_64")]
pub(super) use std::arch::is_x86_feature_detected as is_detected;

/// Defines a kernel for processors with these features. `$scan` is an unsafe function
/// with the signature of `Kernel::scan`, without `self`; it is compiled for the features.
macro_rules! processor_kernel {
    (
        $(#[$doc:meta])*
        $type:ident, $name:literal, [$($feature:tt),+], $scan:expr
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(super) struct $type(());

        impl $type {
            /// The kernel, if the processor can run it.
            pub(super) fn detect() -> Option<Self> {
                let runs = true $(&& $crate::kernel::frame::is_detected!($feature))+;
                runs.then_some(Self(()))
            }
        }

        impl $crate::kernel::Kernel for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn versions(&self) -> usize {
                16
            }

            fn scan(
                &self,
                job: &$crate::kernel::Job,
                start: u32,
                count: u32,
                hits: &mut Vec<$crate::kernel::Hit>,
            ) {
                $(#[target_feature(enable = $feature)])+
                fn compiled_for_features(
                    job: &$crate::kernel::Job,
                    start: u32,
                    count: u32,
                    hits: &mut Vec<$crate::kernel::Hit>,
                ) {
                    // SAFETY: this function is compiled for, and only called on, a
                    // processor with these features.
                    unsafe { $scan(job, start, count, hits) }
                }
                // SAFETY: only `detect` makes a value of this type, on a processor with
                // these features.
                unsafe { compiled_for_features(job, start, count, hits) }
            }
        }
    };
}
pub(super) use processor_kernel;
