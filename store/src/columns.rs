//! Columns that each database keeps in a type of its own.

use std::net::IpAddr;

use ajar_model::Timestamp;
use sqlx::{
    Decode, Encode, Postgres, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef, types::Oid},
    sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef},
};

/// A time, to the microsecond: `timestamptz` in PostgreSQL, microseconds since 1970 in SQLite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At(pub Timestamp);

/// An address: `inet` in PostgreSQL; in SQLite bytes that sort as addresses do, IPv4 first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address(pub IpAddr);

/// A JSON document as it was written: `json` or `jsonb` in PostgreSQL, a text in SQLite.
#[derive(Debug, Clone)]
pub(crate) struct Document(pub String);

/// From PostgreSQL's `pg_type.dat`; these never change.
const JSON: Oid = Oid(114);
const JSONB: Oid = Oid(3802);
const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);
/// Binary values count from 2000-01-01 (PostgreSQL, `datatype/timestamp.h`): microseconds from 1970 to there.
const EPOCH: i64 = 946_684_800_000_000;
/// The first byte of a binary `jsonb` (PostgreSQL, `jsonb_send`); no document begins with it.
const JSONB_VERSION: char = '\u{1}';

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for At {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.as_microsecond() - EPOCH;
        buffer.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for At {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        let micros = i64::from_be_bytes(bytes);
        let micros = micros.checked_add(EPOCH).ok_or("the time is infinite")?;
        Ok(Self(Timestamp::from_microsecond(micros)?))
    }
}

impl Type<Sqlite> for At {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for At {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.0.as_microsecond(), buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for At {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Sqlite>>::decode(value)?;
        Ok(Self(Timestamp::from_microsecond(micros)?))
    }
}

impl Type<Postgres> for Address {
    fn type_info() -> PgTypeInfo {
        <IpAddr as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Address {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Address {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Decode::<Postgres>::decode(value).map(Self)
    }
}

impl Type<Sqlite> for Address {
    fn type_info() -> SqliteTypeInfo {
        <Vec<u8> as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Address {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(sortable(self.0), buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Address {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        unsortable(Decode::<Sqlite>::decode(value)?).map(Self)
    }
}

impl Type<Postgres> for Document {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(JSON)
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        [JSON, JSONB].map(PgTypeInfo::with_oid).contains(found)
    }
}

impl Encode<'_, Postgres> for Document {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for Document {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = value.as_str()?;
        let document = text.strip_prefix(JSONB_VERSION).unwrap_or(text);
        Ok(Self(document.to_owned()))
    }
}

impl Type<Sqlite> for Document {
    fn type_info() -> SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Document {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode_by_ref(&self.0, buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Document {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        Decode::<Sqlite>::decode(value).map(Self)
    }
}

fn sortable(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => [&[4], ip.octets().as_slice()].concat(),
        IpAddr::V6(ip) => [&[6], ip.octets().as_slice()].concat(),
    }
}

fn unsortable(bytes: &[u8]) -> Result<IpAddr, BoxDynError> {
    match bytes {
        [4, octets @ ..] => Ok(<[u8; 4]>::try_from(octets)?.into()),
        [6, octets @ ..] => Ok(<[u8; 16]>::try_from(octets)?.into()),
        _ => Err("the address is of an unknown family".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_sort_as_numbers_with_ipv4_first() {
        let sorted = [
            "0.0.0.0",
            "9.0.0.1",
            "10.0.0.1",
            "255.0.0.0",
            "::",
            "::1",
            "::ffff:1.2.3.4",
            "2001:db8::",
        ];
        let sorted = sorted.map(|ip| ip.parse::<IpAddr>().unwrap());
        let bytes = sorted.map(sortable);
        assert!(bytes.is_sorted());
        assert_eq!(bytes.map(|b| unsortable(&b).unwrap()), sorted);
    }
}
