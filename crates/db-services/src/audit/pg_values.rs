//! Addresses and JSON in the binary formats of PostgreSQL, for diesel and for tokio-postgres.

use std::error::Error;
use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use db_schema::JsonText;
use diesel::pg::Pg;
use diesel::serialize::{self, Output};
use diesel::sql_types::{Inet, Jsonb};
use ipnet::IpNet;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

/// An address as `inet`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) IpNet);

/// JSON as `jsonb`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Json<'a>(pub(super) &'a JsonText);

impl diesel::serialize::ToSql<Inet, Pg> for Address {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        diesel::serialize::ToSql::<Inet, Pg>::to_sql(&self.0, out)
    }
}

impl diesel::serialize::ToSql<Jsonb, Pg> for Json<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        diesel::serialize::ToSql::<Jsonb, Pg>::to_sql(self.0, out)
    }
}

impl ToSql for Address {
    /// PostgreSQL's binary `inet`: family (2, or 3 for IPv6), prefix length, 0, number of bytes, bytes.
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let (family, octets) = match self.0.addr() {
            IpAddr::V4(ip) => (2, ip.octets().to_vec()),
            IpAddr::V6(ip) => (3, ip.octets().to_vec()),
        };
        out.put_slice(&[family, self.0.prefix_len(), 0, if family == 2 { 4 } else { 16 }]);
        out.put_slice(&octets);
        Ok(IsNull::No)
    }

    accepts!(INET);
    to_sql_checked!();
}

impl ToSql for Json<'_> {
    /// PostgreSQL's binary `jsonb`: the version of the format, 1, then the text.
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u8(1);
        out.put_slice(self.0.as_str().as_bytes());
        Ok(IsNull::No)
    }

    accepts!(JSONB);
    to_sql_checked!();
}
