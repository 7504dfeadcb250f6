//! Texts that look like a secret and are none.

use super::*;

#[test]
fn what_only_looks_like_a_secret_stays() {
    let kept = json!({
        "token_count": 5, "tokens": 120, "max_tokens": 4096, "tokenType": "Bearer", "token_id": "t-1", "next_token": "abc",
        "clientRequestToken": "abc", "password_changed_at": "2026-01-01", "passwordResetRequired": false,
        "password_policy": "strong", "secretId": "arn:aws:x", "secret_name": "db", "SecretARN": "arn", "key": "a/b",
        "keyId": "alias/a", "public_key": "ssh-ed25519 AAAA", "primary_key": "id", "cache_key": "v1", "spin": "left",
        "shipping": "fast", "hotpot": "a", "monkey": "m", "keyboard": "k", "cookie_count": 3, "author": "a",
        "authorized": "yes", "authority": "a", "tokenizer": "bpe", "secretary": "s", "opinion": "o",
        "accessKeyId": format!("AKIA{}", random(UPPER, 16)),
    });
    assert_eq!(stored(&kept), kept);
    let kept = json!({
        "authorization": {"action": "Microsoft.Compute/virtualMachines/write", "role": "Owner"}, "hashed_token": "x8Mdk=",
        "NextContinuationToken": "1ueG", "newStartPageToken": "9", "nextSyncToken": "C", "creationToken": "fs-1",
        "nextForwardToken": "f/1", "lockToken": "1-2", "storage_key": "uploads/a.png",
        "serviceAccountToken": {"path": "token", "audience": "vault", "expirationSeconds": 3607},
        "secret": {"defaultMode": 420, "items": [{"key": "tls.crt", "path": "cert"}], "secretName": "tls"},
        "deploy_key": {"title": "ci", "fingerprint": "SHA256:abc"}, "personal_access_token": {"owner": "alice"},
        "requests": [{"path": "/oauth/token", "from": "203.0.113.7"}, {"path": "/reset/password", "to": "a", "content": "b"}],
        "changes": [{"path": "/max_tokens", "from": 1, "to": 2}, {"path": "/page/next_token", "from": "a", "to": "b"}],
        "counts": "max_tokens=4096, tokens: 150000, {\"max_tokens\": 4096}",
        "cover": "BASIC COVERAGE, Basic Auth/SSO, basic coverage, Bearer RFC6750",
        "sessionToken": "IQoJb3JpZ2luX2VjEC0aCXVzLWVhc3QtMSJI",
    });
    assert_eq!(stored(&kept), kept);
    let kept = json!({
        "digest": format!("4b1d{}", random(HEX, 60)), "image4": format!("app@sha256:4b1d{}", random(HEX, 60)),
        "etag": format!("cache-key-{}", random(HEX, 32)), "ulid": "API-01ARZ3NDEKTSV4RRFFQ69G5FAV",
    });
    assert_eq!(stored(&kept), kept);
    let kept = json!({
        "uuid": "0190d0ee-4111-7111-8111-111111111111", "sha256": random(HEX, 64), "sha1": random(HEX, 40),
        "base64": random(ALPHANUMERIC, 64), "nanos": 1_688_990_797_103_471_741_u64, "millis": 1_764_374_400_000_u64,
        "account": 123_837_392_027_u64, "order": "4111111111111112", "ean": "4006381333931", "snowflake": 4_337_089_035_238_242_657_u64, "version": "4111111111111111.5",
        "url": "https://example.org:8443/a?b=c", "git": "ssh://git@example.org/a.git", "mail": "mailto:a@example.org",
        "image": "registry.example.org/a@sha256:abc", "time": "2026-11-29T00:00:00Z",
        "arn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:web-secret-17-QaRzei",
        "prose": "invalid token: expected a number; password: must be long; token = next, secret: yes, cookie: none",
        "json": "{\"token_count\": 12345678, \"password\": null, \"token\": true, \"secret\": \"\"}",
        "text": "Bearer authentication is required; Basic authentication is not enough. The token= sign.",
        "certificate": "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "words": "asia-pacific ASIATICS key-value sk-learn hf_hub npm_run SG.x eyJ", "phone": "+4915112345678901",
        "role": "arn:aws:iam::123456789012:role/AKIA", "query": "page_token=abc&nextToken=def",
    });
    assert_eq!(stored(&kept), kept);
}

#[test]
fn what_replaced_a_secret_before_stays() {
    let kept = json!({"password": format!("hmac-sha256:{}", random(HEX, 64)), "token": "[scrubbed]", "secret": "[scrubbed: no hash key]"});
    assert_eq!(stored(&kept), kept);
}
