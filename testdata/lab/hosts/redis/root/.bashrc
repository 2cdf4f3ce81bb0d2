# redis-cli reads its password here, so that no argument holds it.
export REDISCLI_AUTH={{.Secrets.Redis}}
