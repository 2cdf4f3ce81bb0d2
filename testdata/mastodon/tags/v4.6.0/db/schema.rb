# This file is auto-generated from the current state of the database. Instead
# of editing this file, please use the migrations feature of Active Record to
# incrementally modify your database, and then regenerate this schema definition.
#
# This file is the source Rails uses to define your schema when running `bin/rails
# db:schema:load`. When creating a new database, `bin/rails db:schema:load` tends to
# be faster and is potentially less error prone than running all of your
# migrations from scratch. Old migrations may fail to apply correctly if those
# migrations use external dependencies or application code.
#
# It's strongly recommended that you check this file into your version control system.

ActiveRecord::Schema[7.2].define(version: 2026_02_11_130000) do
  # These are extensions that must be enabled in order to support this database
  enable_extension "plpgsql"

  create_table "accounts", force: :cascade do |t|
    t.string "username", null: false
    t.string "display_name", default: "", null: false
    t.jsonb "settings", default: {}, null: false
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["username"], name: "index_accounts_on_username", unique: true
  end

  create_table "collections", force: :cascade do |t|
    t.bigint "account_id", null: false
    t.string "language", default: "en", null: false
    t.integer "items_count", default: 0, null: false
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["account_id", "language"], name: "index_collections_on_account_id_and_language", unique: true
    t.index ["account_id"], name: "index_collections_on_account_id"
  end

  create_table "imports", force: :cascade do |t|
    t.bigint "account_id", null: false
    t.datetime "finished_at"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["account_id"], name: "index_imports_on_account_id"
  end

  create_table "job_runs", force: :cascade do |t|
    t.string "job_class", null: false
    t.string "queue", null: false
    t.string "origin", null: false
    t.integer "runs", default: 0, null: false
    t.string "jid"
    t.string "release"
    t.datetime "created_at", null: false
    t.datetime "last_run_at"
  end

  create_table "oauth_access_tokens", force: :cascade do |t|
    t.string "token", null: false
    t.bigint "resource_owner_id", null: false
    t.string "scopes", default: "read write", null: false
    t.datetime "revoked_at"
    t.datetime "created_at", null: false
    t.index ["token"], name: "index_oauth_access_tokens_on_token", unique: true
  end

  create_table "settings", force: :cascade do |t|
    t.string "var", null: false
    t.text "value"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["var"], name: "index_settings_on_var", unique: true
  end

  create_table "statuses", force: :cascade do |t|
    t.bigint "account_id", null: false
    t.text "text", null: false
    t.integer "deliveries", default: 0, null: false
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.integer "links_count", default: 0, null: false
    t.string "language"
    t.index ["account_id"], name: "index_statuses_on_account_id"
    t.index ["language"], name: "index_statuses_on_language"
  end

  create_table "users", force: :cascade do |t|
    t.bigint "account_id", null: false
    t.string "email", null: false
    t.string "otp_secret"
    t.datetime "created_at", null: false
    t.datetime "updated_at", null: false
    t.index ["account_id"], name: "index_users_on_account_id"
    t.index ["email"], name: "index_users_on_email", unique: true
  end

  add_foreign_key "collections", "accounts"
  add_foreign_key "imports", "accounts"
  add_foreign_key "oauth_access_tokens", "users", column: "resource_owner_id"
  add_foreign_key "statuses", "accounts"
  add_foreign_key "users", "accounts"
end
