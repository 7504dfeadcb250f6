//! JSON as the text that the database holds, which may be more than a JSON parser accepts.

use std::borrow::Cow;
use std::fmt;

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
#[cfg(feature = "postgres")]
use diesel::sql_types::Jsonb;
#[cfg(feature = "sqlite")]
use diesel::sql_types::Text;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// JSON as the text the database holds, parsed on demand.
///
/// PostgreSQL stores numbers such as `1E400` and documents nested ten thousand levels deep, which
/// `serde_json` refuses. Kept as text, such a row can still be read, shown and proved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[cfg_attr(feature = "postgres", diesel(sql_type = Jsonb))]
#[cfg_attr(feature = "sqlite", diesel(sql_type = Text))]
pub struct JsonText(String);

impl JsonText {
    /// Takes JSON text as it is, without a check; the database refuses what is no JSON.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the exact text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Parses the text.
    ///
    /// # Errors
    /// When `serde_json` cannot hold the value: a number beyond `f64`, or more than 127 levels.
    pub fn parse(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

/// The control characters that JSON allows between tokens.
const BREAKS: [char; 3] = ['\n', '\r', '\t'];

impl Serialize for JsonText {
    /// Returns the text as it is, as JSON in JSON, but for line breaks and tabs between its tokens, which become spaces.
    /// A line break would end a JSON line in its middle, and a program that escapes control characters in what it prints
    /// would make a tab outside of a string invalid. Text that is no JSON becomes a string.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // In JSON they stand between tokens alone: within a string they are escaped.
        let line = match self.0.contains(BREAKS) {
            true => Cow::Owned(self.0.replace(BREAKS, " ")),
            false => Cow::Borrowed(&self.0),
        };
        match serde_json::from_str::<&RawValue>(&line) {
            Ok(json) => json.serialize(serializer),
            Err(_) => self.0.serialize(serializer),
        }
    }
}

/// The exact text as a JSON string, for `#[serde(with = "…")]`.
pub(super) mod as_string {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::JsonText;

    pub(in super::super) fn serialize<S: Serializer>(
        json: &JsonText,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        json.0.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<JsonText, D::Error> {
        String::deserialize(deserializer).map(JsonText)
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "postgres")]
mod pg {
    use std::io::Write;

    use diesel::deserialize::{self, FromSql};
    use diesel::pg::{Pg, PgValue};
    use diesel::serialize::{self, IsNull, Output, ToSql};
    use diesel::sql_types::Jsonb;

    use super::JsonText;

    /// The only version of PostgreSQL's binary jsonb format: one byte, then the text.
    const JSONB_VERSION: u8 = 1;

    impl FromSql<Jsonb, Pg> for JsonText {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            match value.as_bytes() {
                [JSONB_VERSION, text @ ..] => Ok(Self(String::from_utf8_lossy(text).into_owned())),
                _ => Err("unknown version of PostgreSQL's binary jsonb format".into()),
            }
        }
    }

    impl ToSql<Jsonb, Pg> for JsonText {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
            out.write_all(&[JSONB_VERSION])?;
            out.write_all(self.0.as_bytes())?;
            Ok(IsNull::No)
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use diesel::deserialize::{self, FromSql};
    use diesel::serialize::{self, IsNull, Output, ToSql};
    use diesel::sql_types::Text;
    use diesel::sqlite::{Sqlite, SqliteValue};

    use super::JsonText;

    impl FromSql<Text, Sqlite> for JsonText {
        fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            Ok(Self(value.read_text().to_owned()))
        }
    }

    impl ToSql<Text, Sqlite> for JsonText {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
            out.set_value(self.0.as_str());
            Ok(IsNull::No)
        }
    }
}
