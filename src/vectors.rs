//! Arithmetic on many numbers at once, in the widest vectors that the processor has.
//!
//! What is computed is plain code, a loop over numbers whose steps do not depend on each other; it is compiled once
//! for each width, and which of these runs is chosen when it is called. And memory is asked for ahead ([`prefetch`]).

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions may be used where the processor was asked for them")
)]

/// Something to compute.
pub(crate) trait Wide {
    /// What comes of it.
    type Result;

    /// Computes it, into a place that is there: results of thousands of bytes are not carried about. To be inlined, with
    /// all that it calls: it is compiled anew for each width.
    fn compute(&self, result: &mut Self::Result);
}

/// Computes it in the widest vectors.
#[inline]
pub(crate) fn widest<W: Wide>(work: &W, result: &mut W::Result) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
        fn with_avx512<W: Wide>(work: &W, result: &mut W::Result) {
            work.compute(result);
        }
        #[target_feature(enable = "avx2")]
        fn with_avx2<W: Wide>(work: &W, result: &mut W::Result) {
            work.compute(result);
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor was asked for them.
            return unsafe { with_avx512(work, result) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was asked for them.
            return unsafe { with_avx2(work, result) };
        }
    }
    work.compute(result);
}

/// Asks for memory that is needed soon, so that it is in the cache then. Any place will do: what is not there is not
/// asked for.
#[inline]
pub(crate) fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: nothing is read or written.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// What comes of it in each of the ways that this processor has; `empty` is where it goes.
#[cfg(test)]
pub(crate) fn every_way<W: Wide<Result: Clone>>(work: &W, empty: &W::Result) -> Vec<W::Result> {
    let mut ways = vec![empty.clone(); 2];
    widest(work, &mut ways[0]);
    work.compute(&mut ways[1]);
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<W: Wide>(work: &W, result: &mut W::Result) {
            work.compute(result);
        }
        if is_x86_feature_detected!("avx2") {
            let mut way = empty.clone();
            // SAFETY: the processor was asked for them.
            unsafe { with_avx2(work, &mut way) };
            ways.push(way);
        }
    }
    ways
}
