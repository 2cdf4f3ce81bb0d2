CREATE ROLE mastodon LOGIN CREATEDB PASSWORD '{{.Secrets.Database}}';
CREATE ROLE replicator LOGIN REPLICATION PASSWORD '{{.Secrets.Replication}}';
CREATE DATABASE mastodon OWNER mastodon TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
