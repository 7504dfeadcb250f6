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

/// The text of a field without surrounding spaces, if it has 1 to 100 characters.
pub(crate) fn short_text(text: &str) -> Result<&str, AppError> {
    let text = text.trim();
    if (1..=100).contains(&text.chars().count()) {
        Ok(text)
    } else {
        Err(AppError::Invalid("a name has 1 to 100 characters"))
    }
}
