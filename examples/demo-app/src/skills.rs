//! Skills: members keep their own, administrators delete and merge all.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Redirect;
use db_services::audit::actions::{
    ADMIN_DELETE_SKILL, ADMIN_MERGE_SKILLS, SKILL_CREATE, SKILL_DELETE, SKILL_UPDATE,
};
use db_services::audit::{AuditEntry, observe};
use maud::{Markup, html};
use serde::Deserialize;

use crate::actions::SKILL_EXPORT;
use crate::error::{AppError, record};
use crate::form::{Fields, short_text};
use crate::pages;
use crate::secrets::new_id;
use crate::store::{Skill, Store, User};
use crate::visitor::Visitor;

#[derive(Deserialize)]
pub(crate) struct SkillForm {
    name: String,
    level: i32,
}

impl SkillForm {
    fn checked(&self) -> Result<(&str, i32), AppError> {
        if !(1..=5).contains(&self.level) {
            return Err(AppError::Invalid("a level is 1 to 5"));
        }
        Ok((short_text(&self.name)?, self.level))
    }
}

#[derive(Deserialize)]
pub(crate) struct MergeForm {
    from: String,
    into: String,
}

/// True if the user may change the skill.
fn may_change(user: &User, skill: &Skill) -> bool {
    user.is_admin || skill.owner == user.name
}

pub(crate) async fn create(
    State(store): State<Store>,
    visitor: Visitor,
    Fields(form): Fields<SkillForm>,
) -> Result<Redirect, AppError> {
    let id = new_id();
    let entry = AuditEntry::new(SKILL_CREATE).resource("skill", &*id);
    let user = visitor.may(&entry)?;
    let created = async {
        let (name, level) = form.checked()?;
        let (tenant_id, owner, name) = (user.tenant_id, user.name, name.to_owned());
        store
            .create_skill(&Skill {
                id,
                tenant_id,
                owner,
                name,
                level,
            })
            .await
    };
    let entry = entry.detail("name", &*form.name).detail("level", form.level);
    record(entry, created.await)?;
    Ok(Redirect::to("/skills"))
}

pub(crate) async fn update(
    State(store): State<Store>,
    visitor: Visitor,
    Path(id): Path<String>,
    Fields(form): Fields<SkillForm>,
) -> Result<Redirect, AppError> {
    let entry = AuditEntry::new(SKILL_UPDATE).resource("skill", &*id);
    let user = visitor.may(&entry)?;
    let updated = async {
        let (name, level) = form.checked()?;
        if !may_change(&user, &store.skill(&user.tenant_id, &id).await?) {
            return Err(AppError::Forbidden("the skill is another user's"));
        }
        store.update_skill(&user.tenant_id, &id, name, level).await
    };
    match updated.await {
        // The rows as the database returned them.
        Ok((before, after)) => drop(entry.changes(&before, &after).write()),
        Err(error) => return record(entry, Err(error)),
    }
    Ok(Redirect::to("/skills"))
}

pub(crate) async fn delete(
    State(store): State<Store>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Redirect, AppError> {
    let mut entry = AuditEntry::new(SKILL_DELETE).resource("skill", &*id);
    let user = visitor.may(&entry)?;
    let deleted = async {
        let skill = store.skill(&user.tenant_id, &id).await?;
        if skill.owner != user.name {
            entry.action = ADMIN_DELETE_SKILL.into();
        }
        if !may_change(&user, &skill) {
            return Err(AppError::Forbidden("the skill is another user's"));
        }
        store.delete_skill(&user.tenant_id, &id).await
    };
    match deleted.await {
        // The row as the database returned it.
        Ok(skill) => drop(
            entry
                .detail("name", skill.name)
                .detail("owner", skill.owner)
                .write(),
        ),
        Err(error) => return record(entry, Err(error)),
    }
    Ok(Redirect::to("/skills"))
}

pub(crate) async fn merge(
    State(store): State<Store>,
    visitor: Visitor,
    Fields(form): Fields<MergeForm>,
) -> Result<Redirect, AppError> {
    let entry = AuditEntry::new(ADMIN_MERGE_SKILLS)
        .resource("skill", &*form.into)
        .detail("merged", &*form.from);
    let user = visitor.may_administer(&entry)?;
    let merged = if form.from == form.into {
        Err(AppError::Invalid("a skill cannot be merged into itself"))
    } else {
        // Writes the entry in its transaction, on success.
        store
            .merge_skills(&user.tenant_id, &form.from, &form.into, entry.clone())
            .await
    };
    merged.inspect_err(|error| error.record(entry))?;
    Ok(Redirect::to("/skills"))
}

/// All skills as JSON, for users and for programs. Reading in bulk is worth an entry, with its outcome and duration.
pub(crate) async fn export(
    State(store): State<Store>,
    visitor: Visitor,
) -> Result<Json<Vec<Skill>>, AppError> {
    let entry = AuditEntry::new(SKILL_EXPORT);
    let user = visitor.may_export(&entry)?;
    observe(entry, store.skills(&user.tenant_id)).await.map(Json)
}

pub(crate) async fn list(State(store): State<Store>, visitor: Visitor) -> Result<Markup, AppError> {
    let user = visitor.signed_in()?;
    let skills = store.skills(&user.tenant_id).await?;
    let content = html! {
        table {
            thead { tr { th { "Skill" } th { "Level" } th { "Owner" } th { } } }
            tbody {
                @for skill in &skills {
                    tr id=(skill.id) {
                        td { @if may_change(&user, skill) { a href={ "/skills/" (skill.id) } { (skill.name) } } @else { (skill.name) } }
                        td { (skill.level) }
                        td { (skill.owner) }
                        td.actions { @if may_change(&user, skill) { (delete_button(skill)) } }
                    }
                }
            }
        }
        div.columns {
            form.card method="post" action="/skills" {
                h2 { "New skill" }
                (fields("", 3))
                button { "Create" }
            }
            @if user.is_admin { (merge_form(&skills)) }
        }
    };
    Ok(pages::layout(Some(&user), "Skills", content))
}

pub(crate) async fn page(
    State(store): State<Store>,
    visitor: Visitor,
    Path(id): Path<String>,
) -> Result<Markup, AppError> {
    let user = visitor.signed_in()?;
    let skill = store.skill(&user.tenant_id, &id).await?;
    let content = html! {
        form.card method="post" action={ "/skills/" (skill.id) } {
            (fields(&skill.name, skill.level))
            button { "Save" }
        }
    };
    Ok(pages::layout(Some(&user), &skill.name, content))
}

fn fields(name: &str, level: i32) -> Markup {
    html! {
        label { "Name" input name="name" value=(name) maxlength="100" required; }
        label { "Level" input name="level" type="number" min="1" max="5" value=(level) required; }
    }
}

fn delete_button(skill: &Skill) -> Markup {
    html! {
        form method="post" action={ "/skills/" (skill.id) "/delete" } { button.danger { "Delete" } }
    }
}

fn merge_form(skills: &[Skill]) -> Markup {
    let select = |name: &str| {
        html! { select name=(name) { @for skill in skills { option value=(skill.id) { (skill.name) } } } }
    };
    html! {
        form.card method="post" action="/skills/merge" {
            h2 { "Merge" }
            label { "This skill" (select("from")) }
            label { "into this one" (select("into")) }
            button { "Merge" }
        }
    }
}
