//! Converts CloudTrail records to audit entries.
//!
//! Field meanings: AWS CloudTrail User Guide, "CloudTrail record contents".

use chrono::{DateTime, Utc};
use db_services::audit::{AuditEntry, Metadata, Outcome};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Request parameters that name the resource, for events without `resources`. The first one present is used.
const RESOURCE_PARAMETERS: [&str; 12] = [
    "bucketName",
    "secretId",
    "instanceId",
    "keyId",
    "functionName",
    "roleName",
    "userName",
    "groupName",
    "policyArn",
    "trailName",
    "dBInstanceIdentifier",
    "name",
];

/// Converts a record. Numbers stay as they are written. The error says which field is missing or invalid.
pub(crate) fn entry(json: &[u8]) -> Result<AuditEntry, String> {
    let json = std::str::from_utf8(json).map_err(|error| error.to_string())?;
    let mut metadata = Metadata::from_json(json).map_err(|error| error.to_string())?;
    if !json.starts_with('{') {
        return Err("not an object".to_owned());
    }
    let mut record = metadata.to_map();
    let id: Uuid = required(&mut record, "eventID")?
        .parse()
        .map_err(|_| "eventID is not a UUID".to_owned())?;
    let time: DateTime<Utc> = required(&mut record, "eventTime")?
        .parse()
        .map_err(|error| format!("eventTime: {error}"))?;
    let source = required(&mut record, "eventSource")?;
    let name = required(&mut record, "eventName")?;
    let service = source.strip_suffix(".amazonaws.com").unwrap_or(&source);

    let mut entry = AuditEntry::new(format!("{service}.{name}"))
        .id(id)
        .created_at(time)
        .outcome(outcome(&record));
    entry.tenant_id = take(&mut record, "recipientAccountId").map(Into::into);
    entry.user_agent = take(&mut record, "userAgent").map(Into::into);
    entry.request_id = take(&mut record, "requestID").map(Into::into);
    if let Some(address) = take(&mut record, "sourceIPAddress") {
        entry = entry.ip_text(address);
    }
    if let Some(identity) = record.get("userIdentity") {
        entry.actor_id = ["arn", "principalId", "invokedBy", "accountId"]
            .iter()
            .find_map(|key| text(identity, key))
            .map(Into::into);
        entry.actor_type = Some(actor_type(identity).into());
    }
    if let Some((kind, id)) = resource(&record, service) {
        entry = entry.resource(kind, id);
    }
    // A value that became a column is not in the metadata as well.
    metadata.retain(|name, json| record.contains_key(name) && json != "null");
    entry.metadata = metadata;
    Ok(entry)
}

fn required(record: &mut Map<String, Value>, key: &str) -> Result<String, String> {
    take(record, key).ok_or_else(|| format!("{key} is missing"))
}

/// Removes and returns a member if it is text and not empty.
fn take(record: &mut Map<String, Value>, key: &str) -> Option<String> {
    match record.remove(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        Some(other) => {
            record.insert(key.to_owned(), other);
            None
        }
        None => None,
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn outcome(record: &Map<String, Value>) -> Outcome {
    // A failed sign-in to the console has no error code.
    let sign_in = record
        .get("responseElements")
        .and_then(|response| text(response, "ConsoleLogin"));
    match record.get("errorCode").and_then(Value::as_str) {
        Some(code) if is_denial(code) => Outcome::Denied,
        Some(_) => Outcome::Failure,
        None if sign_in.as_deref() == Some("Failure") => Outcome::Failure,
        None => Outcome::Success,
    }
}

/// Whether an error code means that the caller lacked a permission. Services spell it differently:
/// AccessDenied, AccessDeniedException, Client.UnauthorizedOperation, NotAuthorizedException.
fn is_denial(code: &str) -> bool {
    ["AccessDenied", "Unauthorized", "NotAuthorized", "Forbidden"]
        .iter()
        .any(|word| code.contains(word))
}

fn actor_type(identity: &Value) -> &'static str {
    match identity.get("type").and_then(Value::as_str) {
        Some("AWSService") => "service",
        Some("AssumedRole" | "Role") => "role",
        Some("AWSAccount") => "account",
        Some(_) => "user",
        None if identity.get("invokedBy").is_some() => "service",
        None => "anonymous",
    }
}

/// The type and the id of the resource.
fn resource(record: &Map<String, Value>, service: &str) -> Option<(String, String)> {
    let listed = record.get("resources").and_then(|resources| resources.get(0));
    if let Some((resource, arn)) = listed.and_then(|resource| Some((resource, text(resource, "ARN")?))) {
        return Some((text(resource, "type").unwrap_or_else(|| service.to_owned()), arn));
    }
    let parameters = record.get("requestParameters")?;
    RESOURCE_PARAMETERS
        .iter()
        .find_map(|name| Some((service.to_owned(), text(parameters, name)?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(more: Value) -> Value {
        let mut record = json!({
            "eventID": "5ec0c7e5-7f9d-4c4c-8b9e-2f7a0e6d8e01",
            "eventTime": "2023-07-10T11:42:18Z",
            "eventSource": "s3.amazonaws.com",
            "eventName": "GetBucketPolicy",
            "awsRegion": "us-east-1",
        });
        if let (Value::Object(record), Value::Object(more)) = (&mut record, more) {
            record.extend(more);
        }
        record
    }

    fn entry_of(record: Value) -> Result<AuditEntry, String> {
        entry(record.to_string().as_bytes())
    }

    #[test]
    fn a_record_becomes_an_entry() {
        let entry = entry_of(record(json!({
            "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::1:user/ben", "userName": "ben"},
            "recipientAccountId": "1", "sourceIPAddress": "AWS Internal", "userAgent": "cli", "requestID": null,
            "errorCode": "AccessDenied", "requestParameters": {"bucketName": "b"}, "responseElements": null
        })))
        .unwrap();
        assert_eq!(entry.action, "s3.GetBucketPolicy");
        assert_eq!(
            (entry.actor_id.as_deref(), entry.actor_type.as_deref()),
            (Some("arn:aws:iam::1:user/ben"), Some("user"))
        );
        assert_eq!(
            (entry.tenant_id.as_deref(), entry.ip_address, entry.request_id),
            (Some("1"), None, None)
        );
        assert_eq!(
            (entry.resource_type.as_deref(), entry.resource_id.as_deref()),
            (Some("s3"), Some("b"))
        );
        assert_eq!(entry.outcome, Outcome::Denied);
        let kept: Vec<_> = entry.metadata.to_map().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            kept,
            ["awsRegion", "errorCode", "requestParameters", "userIdentity"]
        );
    }

    #[test]
    fn the_outcome_follows_from_the_error_code() {
        let of = |more| entry_of(record(more)).unwrap().outcome;
        assert_eq!(of(json!({})), Outcome::Success);
        assert_eq!(
            of(json!({"errorCode": "Client.UnauthorizedOperation"})),
            Outcome::Denied
        );
        assert_eq!(of(json!({"errorCode": "ThrottlingException"})), Outcome::Failure);
        assert_eq!(
            of(json!({"responseElements": {"ConsoleLogin": "Failure"}})),
            Outcome::Failure
        );
    }

    #[test]
    fn a_missing_or_invalid_field_is_named() {
        assert_eq!(entry_of(json!([])).unwrap_err(), "not an object");
        assert_eq!(entry_of(json!({"eventID": 1})).unwrap_err(), "eventID is missing");
        assert_eq!(
            entry_of(record(json!({"eventID": "x"}))).unwrap_err(),
            "eventID is not a UUID"
        );
        assert!(
            entry_of(record(json!({"eventTime": "noon"})))
                .unwrap_err()
                .starts_with("eventTime: ")
        );
    }
}
