# The commands of this project; `just` lists them.

export PATH := justfile_directory() / ".tools/bin:" + env("PATH")

# Runs a command with DATABASE_URL naming an empty database of a private PostgreSQL, which ends with the command.
with-postgres := "cargo run --quiet -p db-test --"

# List the commands
default:
    @just --list --unsorted

# Install what is missing: PostgreSQL, the diesel CLI, cargo-deny
setup:
    scripts/setup

# Write real events to audit.db (or DATABASE_URL) and show them
demo:
    cargo run --quiet --example quickstart

# Start the example application and print its URL, its users and their passwords; demo-app.db or DATABASE_URL
demo-app:
    cargo run --quiet -p demo-app

# Run all tests except the benchmark's and the browser's, on a private PostgreSQL (or TEST_DATABASE_URL)
test *arguments:
    cargo test --all-features {{ arguments }}

# Measure the writer beside its alternatives; `just bench ingest --json` runs one part
bench *arguments:
    cargo run --quiet --release -p db-bench -- {{ arguments }}

# Run the benchmark's tests: every part with small counts. Its baselines take minutes to compile
test-bench:
    cargo test -p db-bench

# Run the example application in headless Chromium; leaves a screenshot in target/tmp
test-browser:
    scripts/setup chromium
    cargo test -p demo-app-browser

# Compare what Python and DuckDB read from exports with each other; DuckDB comes from PyPI
test-readers:
    scripts/test-readers

# Fuzz a target (ndjson, query, spool_recovery) for N seconds, starting from its seeds; needs a C++ compiler
fuzz target seconds="60":
    scripts/setup fuzz
    # Without sanitizers, which need an unstable compiler: there is no unsafe code here.
    mkdir -p fuzz/corpus/{{ target }}
    cd fuzz && cargo fuzz run --sanitizer none {{ target }} corpus/{{ target }} seeds/{{ target }} -- \
        -max_total_time={{ seconds }} -max_len=16384

# Simulate the writer and its spool for N seconds, a new seed for each history; stops after 5 findings
simulate seconds="60" *arguments:
    cargo run --quiet --release -p audit-core --features simulation --example simulate -- {{ seconds }} {{ arguments }}

# Show the history of one seed, shrunk if it breaks a promise; `--bug NAME` plants a bug
simulate-seed seed *arguments:
    cargo run --quiet --release -p audit-core --features simulation --example simulate -- --seed {{ seed }} {{ arguments }}

# Plant each known bug in turn and show how soon the simulation finds it
simulate-planted seconds="60":
    cargo run --quiet --release -p audit-core --features simulation --example simulate -- --planted {{ seconds }}

# Run all tests on PostgreSQL 14 to 18, downloaded from npm (Linux on x86-64)
test-versions *arguments:
    for version in 14 15 16 17 18; do \
        echo "PostgreSQL $version"; \
        PG_BIN_DIR=$(scripts/postgres $version) TEST_DATABASE_URL= cargo test --workspace --exclude demo-app-browser --all-features {{ arguments }} || exit 1; \
    done

# Run the README's two commands in a minimal Debian root and print their times (as root, about 15 minutes)
bare *directory:
    scripts/bare {{ directory }}

# Run every check that must pass before a commit
check: setup check-code check-schema

# Check formatting, lints, documentation and dependencies
check-code:
    cargo fmt --check
    cargo fmt --check --manifest-path fuzz/Cargo.toml
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    cargo clippy --manifest-path fuzz/Cargo.toml -- -D warnings
    cargo clippy -p db-schema --no-default-features --features postgres -- -D warnings
    cargo clippy -p db-schema --no-default-features --features sqlite -- -D warnings
    # Without the features of dev-dependencies.
    cargo check -p audit-http --no-default-features
    cargo check -p audit-http --features axum
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps
    cargo deny --log-level error check bans licenses sources

# Run the migrations up, down and up again with the diesel CLI; the generated schema must not change
check-schema:
    {{ with-postgres }} sh -ec 'diesel migration run --locked-schema; diesel migration redo --all --locked-schema'
    dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && export DATABASE_URL="$dir/audit.db" DIESEL_CONFIG_FILE=diesel.sqlite.toml && \
        diesel migration run --locked-schema && diesel migration redo --all --locked-schema

# Run the migrations on DATABASE_URL with the diesel CLI
migrate:
    case "${DATABASE_URL:?is not set}" in \
        postgres*) diesel migration run --locked-schema ;; \
        *) DATABASE_URL="${DATABASE_URL#sqlite://}" diesel --config-file diesel.sqlite.toml migration run --locked-schema ;; \
    esac

# Generate schema.rs for both databases from the migrations
schema:
    {{ with-postgres }} diesel migration run
    dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && \
        DATABASE_URL="$dir/audit.db" diesel --config-file diesel.sqlite.toml migration run

# Generate what the doctor expects in the catalog (crates/audit-ops/…/expected.txt) from the migrations
catalog:
    UPDATE_CATALOG=1 cargo test --quiet -p promises the_description_of_the_catalog

# Format the code
fmt:
    cargo fmt
    cargo fmt --manifest-path fuzz/Cargo.toml

# Run what CI runs on every change
ci:
    .ci/run
