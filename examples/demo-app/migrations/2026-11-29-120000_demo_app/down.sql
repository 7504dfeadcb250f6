DROP TABLE api_keys;
DROP TABLE skills;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE tenants;
