// The audit log from which this project grew: Drizzle with the `postgres` driver.
// Arguments: rows of the warm-up, rows, rows of one INSERT. Prints the time that the rows took. Or: "blocks" and
// a table; then it inserts the rows of the range in each line of its input, one by one.
import { createInterface } from "node:readline";
import { drizzle } from "drizzle-orm/postgres-js";
import { inet, jsonb, pgTable, text, timestamp, uuid } from "drizzle-orm/pg-core";
import postgres from "postgres";

const auditEvents = pgTable(process.argv[2] === "blocks" ? process.argv[3] : "audit_events", {
  id: uuid("id").primaryKey().defaultRandom(),
  createdAt: timestamp("created_at", { withTimezone: true }).defaultNow(),
  tenantId: text("tenant_id"),
  actorId: text("actor_id"),
  actorType: text("actor_type"),
  action: text("action").notNull(),
  outcome: text("outcome").notNull(),
  resourceType: text("resource_type"),
  resourceId: text("resource_id"),
  ipAddress: inet("ip_address"),
  userAgent: text("user_agent"),
  requestId: text("request_id"),
  metadata: jsonb("metadata"),
});

const actions = ["document.read", "document.update", "member.invite", "api_key.create", "auth.login"];
const padded = (number, width, radix = 10) => number.toString(radix).padStart(width, "0");

const event = (nth) => ({
  tenantId: `tenant-${padded(nth % 200, 4)}`,
  actorId: `user-${padded((nth * 7919) % 20000, 8)}`,
  actorType: "user",
  action: actions[nth % actions.length],
  outcome: "success",
  resourceType: "document",
  resourceId: `doc-${padded((nth * 2654435761) % 2 ** 40, 12, 16)}`,
  ipAddress: `10.${(nth >> 16) & 255}.${(nth >> 8) & 255}.${nth & 255}`,
  userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
  requestId: `req-${padded((nth * 11400714819) % 2 ** 53, 16, 16)}`,
  metadata: { field: "title", version: nth, reason: "edited in the browser", trusted: true },
});

// The driver takes the directory of a socket only as an option.
const url = new URL(process.env.DATABASE_URL);
const host = decodeURIComponent(url.hostname);
const client = host.startsWith("/")
  ? postgres({ host, user: url.username, database: url.pathname.slice(1) })
  : postgres(process.env.DATABASE_URL);
const database = drizzle(client);

const write = async (from, to, batch) => {
  for (let nth = from; nth < to; nth += batch) {
    const size = Math.min(batch, to - nth);
    const rows = size === 1 ? event(nth) : Array.from({ length: size }, (_, at) => event(nth + at));
    await database.insert(auditEvents).values(rows);
  }
};

const timed = async (from, to, batch) => {
  const cpu = process.cpuUsage();
  const begun = process.hrtime.bigint();
  await write(from, to, batch);
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  const { user, system } = process.cpuUsage(cpu);
  console.log(JSON.stringify({ seconds, cpu_seconds: (user + system) / 1e6 }));
};

if (process.argv[2] === "blocks") {
  for await (const line of createInterface({ input: process.stdin })) {
    await timed(...line.split(" ").map(Number), 1);
  }
} else {
  const [warmUp, rows, batch] = process.argv.slice(2).map(Number);
  await write(0, warmUp, batch);
  await timed(warmUp, warmUp + rows, batch);
}
await client.end();
