/// The standard normal quantile of 64 random bits: one number for each, without rejection.
///
/// Peter Acklam's rational approximation (2003), relative error under 1.2e-9; written out because a
/// crate's sampler draws a varying number of times, and a record's draw must be one.
#[allow(clippy::unreadable_literal, clippy::excessive_precision)] // the coefficients as published
pub(super) fn normal(bits: u64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e+01,
        2.209460984245205e+02,
        -2.759285104469687e+02,
        1.383577518672690e+02,
        -3.066479806614716e+01,
        2.506628277459239e+00,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e+01,
        1.615858368580409e+02,
        -1.556989798598866e+02,
        6.680131188771972e+01,
        -1.328068155288572e+01,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-03,
        -3.223964580411365e-01,
        -2.400758277161838e+00,
        -2.549732539343734e+00,
        4.374664141464968e+00,
        2.938163982698783e+00,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00, 3.754408661907416e+00, 1.0];
    const TAIL: f64 = 0.02425;
    // The middle of one of 2^52 steps, exactly, so neither 0 nor 1.
    let p = ((bits >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if p < TAIL {
        tail(p)
    } else if p > 1.0 - TAIL {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        polynomial(&A, q * q) * q / polynomial(&B, q * q)
    }
}

/// Horner's scheme, highest power first.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::Draws;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (p, z) in
            [(0.5, 0.0), (0.975, 1.959_964), (0.01, -2.326_348), (0.999, 3.090_232), (1e-6, -4.753_424)]
        {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 2^64
            let bits = (p * 2_f64.powi(64)) as u64;
            assert!((normal(bits) - z).abs() < 1e-5, "{p}: {}", normal(bits));
        }
        assert!(normal(0).is_finite() && normal(u64::MAX).is_finite());
    }

    #[test]
    fn draws_have_the_moments_of_the_normal() {
        let draws = Draws::new(5, 0);
        let moment = |power| (0..200_000).map(|n| normal(draws.bits(n)).powi(power)).sum::<f64>() / 200_000.0;
        // 5 standard deviations of each mean: sqrt(Var / 200,000), Var = 1, 2, 15, 96.
        for (power, expected, within) in
            [(1, 0.0, 0.0112), (2, 1.0, 0.0158), (3, 0.0, 0.0433), (4, 3.0, 0.11)]
        {
            assert!((moment(power) - expected).abs() < within, "moment {power}: {}", moment(power));
        }
    }
}
