//! The rows that the bench prints.

/// One thing measured.
pub struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    bound: Option<f64>,
    note: String,
}

impl Row {
    /// A row without a bound. `name` says what was measured; `unit` may be empty for counts.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Row {
        Row { name: name.into(), value, unit, bound: None, note: String::new() }
    }

    /// Sets the bound: a greater value is `over`.
    pub fn bound(self, most: f64) -> Row {
        Row { bound: Some(most), ..self }
    }

    /// Sets the note, which stands at the end of the row.
    pub fn note(self, note: String) -> Row {
        Row { note, ..self }
    }

    pub fn print(self) {
        let value = with_unit(self.value, self.unit);
        let bound = self.bound.map_or("-".to_owned(), |most| with_unit(most, self.unit));
        let verdict = match self.bound {
            None => "-",
            Some(most) if self.value <= most => "ok",
            Some(_) => "over",
        };
        print_columns(&self.name, &value, &bound, verdict, &self.note);
    }
}

/// Prints the headings above all rows.
pub fn print_head() {
    print_columns("what", "value", "bound", "", "");
}

fn print_columns(name: &str, value: &str, bound: &str, verdict: &str, note: &str) {
    println!("{}", format!("{name:<52} {value:>11} {bound:>11}  {verdict:<4}  {note}").trim_end());
}

/// The value and its unit, in about three digits, which are enough for all rows.
fn with_unit(value: f64, unit: &str) -> String {
    let number = match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    format!("{number} {unit}").trim_end().to_owned()
}
