//! The batches of a spool file.

use audit_core::spool::{Batch, BatchSize, Committed, SalvageFrom, SalvagedBatch, StoreError, StoredBatch};
use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;

use super::SpoolFile;
use crate::audit::row::LogRow;
use crate::audit::spool::classify::classify;
use crate::audit::spool::codec::Decoded;
use crate::audit::spool::place::Place;
use crate::audit::spool::table::{MAX_BINDS, batches, delete, length, transaction};

impl SpoolFile {
    pub(in super::super) fn sizes(&mut self, after: i64, limit: usize) -> Result<Vec<BatchSize>, StoreError> {
        let rows: Vec<(i64, i64, i64)> = batches::table
            .filter(batches::id.gt(after))
            .order(batches::id)
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((batches::id, batches::entries, length(batches::body)))
            .load(self.conn()?)
            .map_err(|error| classify(&error))?;
        let size = |(id, rows, bytes): (i64, i64, i64)| BatchSize {
            id,
            rows: rows.unsigned_abs(),
            bytes: bytes.unsigned_abs(),
        };
        Ok(rows.into_iter().map(size).collect())
    }

    pub(in super::super) fn read(&mut self, ids: &[i64]) -> Result<Vec<StoredBatch<LogRow>>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(MAX_BINDS) {
            let bodies = batches::table
                .filter(batches::id.eq_any(some))
                .order(batches::id)
                .select((batches::id, batches::body))
                .load_iter::<(i64, Decoded), DefaultLoadingMode>(self.conn()?)
                .map_err(|error| classify(&error))?;
            // One by one: all bodies would be in memory beside their rows.
            for batch in bodies {
                let (id, Decoded { rows, damaged }) = batch.map_err(|error| classify(&error))?;
                found.push(StoredBatch { id, rows, damaged });
            }
        }
        Ok(found)
    }

    /// Appends bodies and removes batches with one sync. Without either, only looks whether the file is
    /// where it was.
    pub(in super::super) fn commit(
        &mut self,
        append: &[Batch<Vec<u8>>],
        remove: &[i64],
    ) -> Result<Committed, StoreError> {
        self.verify_place()?;
        if append.is_empty() && remove.is_empty() {
            return Ok(Committed::default());
        }
        let committed = transaction(self.conn_for_changes()?, |conn| {
            let removed = delete(conn, remove)?;
            let mut ids = Vec::with_capacity(append.len());
            for Batch { rows, body, .. } in append {
                let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
                let row = (batches::entries.eq(rows), batches::body.eq(body));
                let insert = diesel::insert_into(batches::table)
                    .values(row)
                    .returning(batches::id);
                ids.push(insert.get_result::<i64>(conn)?);
            }
            Ok(Committed { ids, removed })
        })
        .map_err(|error| classify(&error))?;
        self.verify_place()?;
        if append.is_empty() {
            self.shrink();
        }
        Ok(committed)
    }

    /// Reads one batch that can still be read.
    pub(in super::super) fn salvage(
        &mut self,
        from: SalvageFrom,
    ) -> Result<Option<SalvagedBatch<Vec<u8>>>, StoreError> {
        let select = batches::table.select((batches::id, batches::body));
        let conn = self.conn()?;
        let found: QueryResult<Option<(i64, Vec<u8>)>> = match from {
            SalvageFrom::Above(last) => select
                .filter(batches::id.gt(last))
                .order(batches::id.asc())
                .first(conn)
                .optional(),
            SalvageFrom::Between { floor, ceiling } => select
                .filter(batches::id.gt(floor).and(batches::id.lt(ceiling)))
                .order(batches::id.desc())
                .first(conn)
                .optional(),
        };
        match found.map_err(|error| classify(&error)) {
            Ok(found) => Ok(found.map(|(id, body)| SalvagedBatch {
                id,
                batch: batch(body),
            })),
            // What was cut off comes back at no later time.
            Err(StoreError::Transient(reason)) if self.log.as_ref().is_some_and(Place::is_cut_off) => {
                Err(StoreError::Corrupt(reason))
            }
            Err(error) => Err(error),
        }
    }
}

/// An encoded batch as it is in the file.
pub(in super::super) fn batch(body: Vec<u8>) -> Batch<Vec<u8>> {
    let rows = body.iter().filter(|byte| **byte == b'\n').count();
    Batch {
        rows: rows as u64,
        bytes: body.len() as u64,
        body,
    }
}
