//! The fields of a form.

use axum::Form;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use serde::de::DeserializeOwned;

use crate::error::AppError;
use crate::visitor::reject;

/// The fields of a form. A request without a readable form is recorded.
pub(crate) struct Fields<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Fields<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let path = request.uri().path().to_owned();
        match Form::from_request(request, state).await {
            Ok(Form(fields)) => Ok(Self(fields)),
            Err(rejection) => Err(reject(&path, rejection.into())),
        }
    }
}

/// The text of a field without surrounding spaces, if it has 1 to 100 characters and none that is not seen: they make
/// two names look alike, and PostgreSQL stores no U+0000.
pub(crate) fn short_text(text: &str) -> Result<&str, AppError> {
    let text = text.trim();
    if text.chars().any(is_invisible) {
        return Err(AppError::Invalid(
            "a name has no control characters and none of no width",
        ));
    }
    if (1..=100).contains(&text.chars().count()) {
        Ok(text)
    } else {
        Err(AppError::Invalid("a name has 1 to 100 characters"))
    }
}

/// Control characters, those of no width, and those that change the direction of a text.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
