//! Standard output and standard error: lines and tables for people, JSON for
//! programs. Every write reports its failure: a closed pipe ends the command
//! quietly instead of with a panic.

use std::io::{self, IsTerminal, Write as _};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

/// SGR parameter (ECMA-48) for bold text.
pub(crate) const BOLD: &str = "1";
/// SGR parameter for faint text.
pub(crate) const DIM: &str = "2";
/// SGR parameter for red text.
pub(crate) const RED: &str = "31";
/// SGR parameter for green text.
pub(crate) const GREEN: &str = "32";
/// SGR parameter for yellow text.
pub(crate) const YELLOW: &str = "33";

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether text that goes to `stream` gets colours.
pub(crate) fn use_color(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            stream.is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
        }
    }
}

/// The text in a style, or as it is.
pub(crate) fn paint(color: bool, codes: &[&str], text: &str) -> String {
    if color {
        format!("\u{1b}[{}m{text}\u{1b}[0m", codes.join(";"))
    } else {
        text.to_owned()
    }
}

/// Writes a command's results to standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// Whether text gets colours.
    color: bool,
}

impl Printer {
    pub(crate) fn new(choice: ColorChoice) -> Self {
        Self {
            color: use_color(choice, &io::stdout()),
        }
    }

    /// Writes one line, or several.
    pub(crate) fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", text.as_ref())?;
        out.flush()
    }

    /// Writes a value as JSON over several lines.
    pub(crate) fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        Ok(self.line(text)?)
    }

    /// Writes a value as one line of JSON: an element of a stream.
    pub(crate) fn json_line(self, value: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(value)?;
        Ok(self.line(text)?)
    }

    /// The text in a style, where colours are wanted.
    pub(crate) fn paint(self, codes: &[&str], text: &str) -> String {
        paint(self.color, codes, text)
    }

    /// Writes one label and value a line, with the values aligned.
    pub(crate) fn fields(self, fields: &[(&str, String)]) -> io::Result<()> {
        let width = fields.iter().map(|(label, _)| label.chars().count()).max();
        let width = width.unwrap_or(0);
        for (label, value) in fields {
            let padding = " ".repeat(width - label.chars().count());
            let label = self.paint(&[DIM], label);
            self.line(format!("{label}{padding}  {value}"))?;
        }
        Ok(())
    }
}

/// Writes a remark that is no part of the result to standard error.
pub(crate) fn note(text: impl AsRef<str>) {
    // A remark that can't be written is no reason to fail.
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// A column of a table: its title and the side to which its cells are aligned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    /// A column of text.
    Left(&'static str),
    /// A column of numbers.
    Right(&'static str),
}

/// Lays out rows below a header.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    // Lines are never wrapped: a hash that is spread over two lines can't be copied.
    table.load_style(presets::UTF8_FULL_CONDENSED.with_rounded_corners());
    table.force_no_tty();
    let aligned = |column: &Column, text: String| {
        let alignment = match column {
            Column::Left(_) => CellAlignment::Left,
            Column::Right(_) => CellAlignment::Right,
        };
        Cell::new(text).set_alignment(alignment)
    };
    let header = columns.iter().map(|column| {
        let (Column::Left(name) | Column::Right(name)) = *column;
        aligned(column, name.to_owned())
    });
    table.set_header(header.collect::<Vec<_>>());
    for row in rows {
        let cells = columns.iter().zip(row);
        table.add_row(
            cells
                .map(|(column, text)| aligned(column, text))
                .collect::<Vec<_>>(),
        );
    }
    table.to_string()
}
