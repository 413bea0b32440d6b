//! Arithmetic on many numbers at once, in the widest vectors that the processor has.
//!
//! What is computed is plain code, a loop over numbers whose steps do not depend on each other; it is compiled once
//! for each width, and which of these runs is chosen when it is called.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions may be used where the processor was asked for them")
)]

/// Something to compute.
pub(crate) trait Wide {
    /// What comes of it.
    type Result;

    /// Computes it. To be inlined, with all that it calls: it is compiled anew for each width.
    fn compute(&self) -> Self::Result;
}

/// Computes it in the widest vectors.
#[inline]
pub(crate) fn widest<W: Wide>(work: &W) -> W::Result {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
        fn with_avx512<W: Wide>(work: &W) -> W::Result {
            work.compute()
        }
        #[target_feature(enable = "avx2")]
        fn with_avx2<W: Wide>(work: &W) -> W::Result {
            work.compute()
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor was asked for them.
            return unsafe { with_avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was asked for them.
            return unsafe { with_avx2(work) };
        }
    }
    work.compute()
}

/// What comes of it in each of the ways that this processor has.
#[cfg(test)]
pub(crate) fn every_way<W: Wide>(work: &W) -> Vec<W::Result> {
    let mut ways = vec![widest(work), work.compute()];
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<W: Wide>(work: &W) -> W::Result {
            work.compute()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was asked for them.
            ways.push(unsafe { with_avx2(work) });
        }
    }
    ways
}
