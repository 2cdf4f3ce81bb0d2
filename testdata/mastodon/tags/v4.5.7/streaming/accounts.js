import pg from 'pg';

const options = (env) =>
  env.DATABASE_URL
    ? { connectionString: env.DATABASE_URL }
    : {
        host: env.DB_HOST || 'localhost',
        port: Number(env.DB_PORT || 5432),
        database: env.DB_NAME || 'mastodon_production',
        user: env.DB_USER || 'mastodon',
        password: env.DB_PASS || undefined,
      };

// authenticate answers the id of the account that a token stands for, or undefined.
export const accounts = (env) => {
  const pool = new pg.Pool({ ...options(env), max: Number(env.DB_POOL || 10), connectionTimeoutMillis: 15_000 });
  pool.on('error', () => {}); // An idle connection that broke; the pool opens another.

  // Forgets tokens that were looked up before.
  setInterval(() => pool.cache.clear(), 3000);

  return {
    async authenticate(token) {
      const { rows } = await pool.query(
        'SELECT users.account_id FROM oauth_access_tokens t JOIN users ON users.id = t.resource_owner_id WHERE t.token = $1 AND t.revoked_at IS NULL',
        [token],
      );
      return rows[0]?.account_id;
    },
  };
};
