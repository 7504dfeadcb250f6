//! Rows as lines of JSON or of CSV. Pure.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use db_services::audit::{AuditLog, network_text};

use crate::error::CliError;
use crate::output;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// JSON lines, as `auditlog list --json` prints them
    Ndjson,
    /// A header and a line for each entry
    Csv,
}

impl Format {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// What a file begins with.
    pub(crate) fn header(self) -> Result<Vec<u8>, CliError> {
        match self {
            Self::Ndjson => Ok(Vec::new()),
            Self::Csv => records([COLUMNS.map(Cow::Borrowed)]),
        }
    }

    pub(crate) fn lines(self, rows: &[AuditLog]) -> Result<Vec<u8>, CliError> {
        match self {
            Self::Ndjson => {
                let mut lines = Vec::new();
                for row in rows {
                    lines.extend(output::json_text(row)?.into_bytes());
                    lines.push(b'\n');
                }
                Ok(lines)
            }
            Self::Csv => records(rows.iter().map(|row| cells(row).map(harmless))),
        }
    }
}

fn records<'a>(rows: impl IntoIterator<Item = [Cow<'a, str>; 20]>) -> Result<Vec<u8>, CliError> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for cells in rows {
        writer.write_record(cells.iter().map(|cell| cell.as_bytes()))?;
    }
    Ok(writer.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

/// The columns of CSV: the names and the order of the members of JSON.
const COLUMNS: [&str; 20] = [
    "id",
    "created_at",
    "recorded_at",
    "tenant_id",
    "actor_id",
    "actor_type",
    "on_behalf_of",
    "action",
    "outcome",
    "resource_type",
    "resource_id",
    "ip_address",
    "user_agent",
    "request_id",
    "trace_id",
    "operation_id",
    "metadata",
    "writer_id",
    "writer_seq",
    "tx_id",
];

fn cells(row: &AuditLog) -> [Cow<'_, str>; 20] {
    [
        row.id.to_string().into(),
        time(row.created_at),
        time(row.recorded_at),
        text(&row.tenant_id),
        text(&row.actor_id),
        text(&row.actor_type),
        text(&row.on_behalf_of),
        row.action.as_str().into(),
        row.outcome.as_str().into(),
        text(&row.resource_type),
        text(&row.resource_id),
        row.ip_address.map(network_text).unwrap_or_default().into(),
        text(&row.user_agent),
        text(&row.request_id),
        text(&row.trace_id),
        shown(row.operation_id),
        row.metadata
            .as_ref()
            .map_or("", |metadata| metadata.as_str())
            .into(),
        shown(row.writer_id),
        shown(row.writer_seq),
        row.tx_id.to_string().into(),
    ]
}

fn text(value: &Option<String>) -> Cow<'_, str> {
    value.as_deref().unwrap_or_default().into()
}

fn shown<T: ToString>(value: Option<T>) -> Cow<'static, str> {
    value.map(|value| value.to_string()).unwrap_or_default().into()
}

fn time(time: DateTime<Utc>) -> Cow<'static, str> {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
}

/// A cell that no spreadsheet takes for a formula (OWASP, CSV injection): an apostrophe is put before one that could be,
/// and before one that begins with an apostrophe, so that a reader which removes one gets every value back.
fn harmless(cell: Cow<'_, str>) -> Cow<'_, str> {
    // The wide forms are signs to spreadsheets of East Asian languages.
    const SIGNS: [char; 12] = ['\'', '=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    match cell.starts_with(SIGNS) {
        true => format!("'{cell}").into(),
        false => cell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_could_be_a_formula_begins_with_an_apostrophe() {
        for cell in [
            "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'", "'=1",
        ] {
            let written = harmless(cell.into());
            assert_eq!(written.strip_prefix('\''), Some(cell));
        }
        for cell in ["", "a=1", " =1", "1-1", "{\"a\":\"=1\"}", "日本語"] {
            assert_eq!(harmless(cell.into()), cell);
        }
    }

    #[test]
    fn a_line_of_csv_has_what_csv_quotes() {
        let cells = [
            "a,b", "a\"b", "a\nb", "", "a", "日", "", "", "", "", "", "", "", "", "", "", "", "", "", "z",
        ];
        let line = records([cells.map(Cow::Borrowed)]).unwrap();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "\"a,b\",\"a\"\"b\",\"a\nb\",,a,日,,,,,,,,,,,,,,z\n"
        );
    }
}
