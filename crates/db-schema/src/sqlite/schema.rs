// @generated automatically by Diesel CLI.

diesel::table! {
    audit_logs (id, created_at) {
        id -> Binary,
        created_at -> BigInt,
        recorded_at -> BigInt,
        tenant_id -> Nullable<Text>,
        actor_id -> Nullable<Text>,
        actor_type -> Nullable<Text>,
        on_behalf_of -> Nullable<Text>,
        action -> Text,
        outcome -> Text,
        resource_type -> Nullable<Text>,
        resource_id -> Nullable<Text>,
        ip_address -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        request_id -> Nullable<Text>,
        trace_id -> Nullable<Text>,
        operation_id -> Nullable<Binary>,
        metadata -> Nullable<Text>,
        writer_id -> Nullable<Binary>,
        writer_seq -> Nullable<BigInt>,
        tx_id -> BigInt,
    }
}
