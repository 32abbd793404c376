//! Kubernetes quantities: `100m` of a core, `64Mi` of bytes. They are handed on as they are written; only their size is read.

/// The size of a quantity, in cores or bytes, by the grammar of apimachinery's `resource.Quantity`: a sign, a decimal number, and
/// a suffix. `None` for a text that is none.
///
/// A suffix is `n`, `u` or `m`; decimal, `k M G T P E`; binary, `Ki Mi Gi Ti Pi Ei`; or an exponent, `e3` or `E-2`.
pub fn size(quantity: &str) -> Option<f64> {
    let unsigned = quantity.strip_prefix(['+', '-']).unwrap_or(quantity);
    let sign = if quantity.starts_with('-') { -1.0 } else { 1.0 };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    // Rust reads `5.` and `.5` as Kubernetes does, and takes neither `.` nor two points.
    let number: f64 = number.parse().ok()?;
    Some(sign * number * factor(suffix)?)
}

fn factor(suffix: &str) -> Option<f64> {
    let power = |letters: &str, letter: &str, base: f64| {
        let index = letters.find(letter).and_then(|index| i32::try_from(index).ok())?;
        Some(base.powi(index + 1))
    };
    match suffix {
        "" => Some(1.0),
        "n" => Some(1e-9),
        "u" => Some(1e-6),
        "m" => Some(1e-3),
        "E" => Some(1e18),
        _ if suffix.len() == 1 => power("kMGTP", suffix, 1000.0),
        _ if suffix.len() == 2 && suffix.ends_with('i') => power("KMGTPE", suffix.strip_suffix('i')?, 1024.0),
        _ => exponent(suffix.strip_prefix(['e', 'E'])?),
    }
}

/// `3`, `+3` or `-3`.
fn exponent(text: &str) -> Option<f64> {
    let exponent: i32 = text.parse().ok()?;
    Some(10f64.powi(exponent)).filter(|factor| factor.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (quantity, expected) in [
            ("1", 1.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("+5", 5.0),
            ("-1", -1.0),
            ("100m", 0.1),
            ("5u", 5e-6),
            ("2k", 2e3),
            ("1M", 1e6),
            ("1E", 1e18),
            ("1Ki", 1024.0),
            ("1Gi", 1_073_741_824.0),
            ("1Ei", 1_152_921_504_606_846_976.0),
            ("129e6", 129e6),
            ("1.29E8", 129e6),
            ("1e+3", 1e3),
            ("500e-3", 0.5),
        ] {
            let size = size(quantity).unwrap_or_else(|| panic!("{quantity} is one"));
            assert!((size - expected).abs() <= expected.abs() * 1e-12, "{quantity}: {size}");
        }
        for none in [
            "", ".", "+", "m", "1.2.3", "1K", "1ki", "1mi", "1mm", "1Mib", "1 Mi", "e3", "1e", "1e3Mi", "++1", "0x10",
            "inf", "NaN",
        ] {
            assert_eq!(size(none), None, "{none}");
        }
    }
}
