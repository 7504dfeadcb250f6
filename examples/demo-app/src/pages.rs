//! The frame of each page. maud escapes every text that is put into a page.

use axum::http::header;
use axum::response::IntoResponse;
use maud::{DOCTYPE, Markup, html};

use crate::store::User;

pub(crate) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css")], include_str!("style.css"))
}

pub(crate) fn layout(user: Option<&User>, title: &str, content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) " · Skills" }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="data:,";
            }
            body {
                header {
                    strong { "Skills" }
                    @if let Some(user) = user { (navigation(user)) }
                }
                main { h1 { (title) } (content) }
            }
        }
    }
}

fn navigation(user: &User) -> Markup {
    html! {
        nav {
            a href="/skills" { "Skills" }
            a href="/api-keys" { "API keys" }
            a href="/settings" { "Settings" }
            a href="/trail" { "Audit trail" }
        }
        span.user { (user.name) " · " (user.tenant_id) @if user.is_admin { " · administrator" } }
        form method="post" action="/sign-out" { button.plain { "Sign out" } }
    }
}

/// A page that says why there is no other one.
pub(crate) fn message(text: &str) -> Markup {
    let content = html! { p.error { (text) } p { a href="/skills" { "Back to the skills" } } };
    layout(None, "Not done", content)
}
