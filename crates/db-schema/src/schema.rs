// @generated automatically by Diesel CLI.

diesel::table! {
    /// Who did what, when, from where, with what outcome. Append-only: rows are inserted and never changed.
    audit_logs (id, created_at) {
        /// Identifies the entry together with created_at. UUID version 7 (RFC 9562), made by the caller's process; by the database for clients that send none.
        id -> Uuid,
        /// When it happened, by the caller's clock, to the microsecond. Decides the monthly partition.
        created_at -> Timestamptz,
        /// When the database took the row, by the database's clock. No writer sets it.
        recorded_at -> Timestamptz,
        /// The customer or account the event belongs to. Text and no foreign key: the record outlives what it names.
        tenant_id -> Nullable<Text>,
        /// Who did it.
        actor_id -> Nullable<Text>,
        /// What kind of actor: user, service, api_key, system, anonymous. Readers accept other values.
        actor_type -> Nullable<Text>,
        /// Whom the actor acted for, in an impersonation or a delegation.
        on_behalf_of -> Nullable<Text>,
        /// What was done, as noun.verb, for example auth.login. Actions that begin with audit. are the writer's own.
        action -> Text,
        /// How it ended: success, failure, denied, unknown. Readers accept other values.
        outcome -> Text,
        /// What kind of thing it was done to.
        resource_type -> Nullable<Text>,
        /// Which thing it was done to.
        resource_id -> Nullable<Text>,
        /// The network address it came from.
        ip_address -> Nullable<Inet>,
        /// The client software, as it named itself; at most 256 characters from the audit writer.
        user_agent -> Nullable<Text>,
        /// The request it was part of.
        request_id -> Nullable<Text>,
        /// The distributed trace it was part of (W3C Trace Context).
        trace_id -> Nullable<Text>,
        /// Joins the row of an intent with the row of its outcome.
        operation_id -> Nullable<Uuid>,
        /// Whatever else is worth keeping, a JSON object. Null only after a redaction.
        metadata -> Nullable<Jsonb>,
        /// The audit writer that sent the row; null for other clients and for inserts within a caller's transaction.
        writer_id -> Nullable<Uuid>,
        /// The entry's number in its writer, counted from 1 without gaps.
        writer_seq -> Nullable<Int8>,
        /// The database transaction that inserted the row: how readers find rows that were committed late.
        tx_id -> Int8,
    }
}
