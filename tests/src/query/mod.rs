//! Queries find exactly the rows that a scan in memory finds, on both databases alike.

mod columns;
mod events;
mod naive;
mod pages;
mod properties;
mod strange_rows;
mod tenants;
mod time_limit;
