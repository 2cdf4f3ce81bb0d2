package builds

import (
	"strings"
	"testing"
)

func TestRiskyMigrationsAreMarkedWithTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		post bool
		text string
		want string // one reason's part; empty for no reason at all
	}{
		"a rewrite with an empty down":         {text: "def up\n  Role.where('x').update_all('y = 1')\nend\n\ndef down; end\n", want: "update_all) and its down is empty"},
		"a down that says so":                  {text: "def up\n  Role.update_all(a: 1)\nend\n\ndef down\n  # nothing to do\nend\n", want: "its down is empty"},
		"a down of nil":                        {text: "def up\n  Role.update_all(a: 1)\nend\ndef down\n  nil\nend\n", want: "its down is empty"},
		"an endless down":                      {text: "def up\n  Role.update_all(a: 1)\nend\ndef down = nil\n", want: "its down is empty"},
		"no down at all":                       {text: "def up\n  User.find_each do |u|\n    u.update_column('settings', x)\n  end\nend\n", want: "update_column) and has no down"},
		"one by one":                           {text: "def up\n  s.save!\nend\n", want: "save!"},
		"rewritten by SQL":                     {text: "def up\n  execute <<~SQL.squish\n    UPDATE users SET locale = 'no'\n  SQL\nend\ndef down; end", want: "UPDATE) and its down is empty"},
		"deleted by SQL":                       {text: "def up\n  connection.execute(\"DELETE  FROM settings\")\nend\ndef down; end", want: "DELETE FROM)"},
		"a setting":                            {text: "def up\n  Setting.theme = 'x'\nend\ndef down; end", want: "Setting.theme ="},
		"a rewrite that says it is one-way":    {text: "def up\n  A.delete_all\nend\ndef down\n  raise ActiveRecord::IrreversibleMigration\nend", want: "delete_all) and says itself"},
		"in change, with no way back":          {text: "def change\n  execute \"INSERT INTO a VALUES (1)\"\nend", want: "INSERT INTO) and has no down"},
		"in change, with a way back":           {text: "def change\n  reversible do |dir|\n    dir.up { A.update_all(x: 1) }\n    dir.down { A.update_all(x: 0) }\n  end\nend"},
		"a rewrite with a real down":           {text: "def up\n  A.update_all(x: 1)\nend\ndef down\n  A.update_all(x: 0)\nend"},
		"a rewrite in the down alone":          {text: "def up\n  add_column :lists, :x, :string\nend\ndef down\n  A.update_all(x: 0)\nend"},
		"only a comment rewrites":              {text: "def up\n  # A.update_all(x: 1)\n  add_column :lists, :x, :string # not .delete_all\nend\ndef down; end"},
		"irreversible without data":            {post: true, text: "def up\n  drop_table :imports\nend\ndef down\n  raise ActiveRecord::IrreversibleMigration\nend", want: "says itself that it cannot be reversed"},
		"a big index that is not concurrent":   {text: "def change\n  add_index :statuses, :conversation_id\nend", want: "index on statuses, a big table, that is not concurrent"},
		"over several lines":                   {text: "def change\n  add_index :statuses,\n            [:a, :b],\n            algorithm: :concurrently\nend", want: "it takes long"},
		"brackets and quotes":                  {text: "def change\n  add_index(\"statuses\", :x)\nend", want: "not concurrent"},
		"a big index that is concurrent":       {text: "def change\n  add_index :statuses, :conversation_id, algorithm: :concurrently\nend", want: "takes long"},
		"a small table's index":                {text: "def change\n  add_index :lists, :x\nend"},
		"a new table's index":                  {text: "def change\n  create_table :quotes do |t|\n    t.string :x\n  end\n  add_index :quotes, :x\nend"},
		"an index that is only removed":        {text: "def change\n  remove_index :statuses, :x\nend"},
		"a table that is not known":            {text: "def up\n  add_index table, :x\nend", want: "only running code knows (table)"},
		"a reference":                          {text: "def change\n  add_reference :statuses, :quote, null: true\nend", want: "not concurrent"},
		"a reference without index":            {text: "def change\n  add_reference :statuses, :quote, index: false\nend"},
		"a reference with a concurrent one":    {text: "def change\n  add_reference :statuses, :quote, index: { algorithm: :concurrently }\nend", want: "takes long"},
		"an index by SQL":                      {text: "def up\n  execute 'CREATE UNIQUE INDEX x ON accounts (uri)'\nend\ndef down\n  execute 'DROP INDEX x'\nend", want: "index on accounts, a big table, that is not concurrent"},
		"a concurrent index by SQL":            {text: "def up\n  execute 'CREATE INDEX CONCURRENTLY x ON accounts (uri)'\nend\ndef down\n  execute 'DROP INDEX x'\nend", want: "takes long"},
		"an index within change_table":         {text: "def change\n  change_table :accounts, bulk: true do |t|\n    t.index :x\n  end\nend", want: "index on accounts"},
		"a table dropped while the old serves": {text: "def up\n  drop_table :imports\nend\ndef down\n  create_table :imports do |t|\n  end\nend", want: "drop_table imports"},
		"a column renamed":                     {text: "def change\n  rename_column :lists, :a, :b\nend", want: "rename_column lists"},
		"dropped afterwards":                   {post: true, text: "def up\n  remove_column :users, :otp_secret\nend\ndef down\n  add_column :users, :otp_secret, :string\nend"},
		"a new table's column":                 {text: "def change\n  create_table :a do |t|\n  end\n  rename_column :a, :b, :c\nend"},
		"a default that changes":               {text: "def change\n  change_column_default :statuses, :x, from: 1, to: 2\nend"},
		"not null on a big table":              {text: "def change\n  change_column_null :accounts, :x, false\nend", want: "under a lock (change_column_null)"},
		"nullable on a big table":              {text: "def change\n  change_column_null :accounts, :x, true\nend"},
		"not null after a validated check":     {text: "def change\n  validate_check_constraint :accounts, name: 'n'\n  change_column_null :accounts, :x, false\nend"},
		"a foreign key":                        {text: "def change\n  add_foreign_key :statuses, :quotes\nend", want: "add_foreign_key"},
		"a foreign key validated later":        {text: "def change\n  add_foreign_key :statuses, :quotes, validate: false\nend"},
		"a walk over a big table":              {text: "def up\n  Account.local.where.not(key: nil).in_batches do |a|\n    a.update_all(x: 1)\n  end\nend\ndef down\n  Account.where(key: nil).find_each { |a| a.update(x: 0) }\nend", want: "goes through accounts, a big table, row by row (in_batches)"},
		"a walk over statuses":                 {text: "def up\n  Status.find_each(&:touch)\nend\ndef down; end", want: "goes through statuses"},
		"a walk over a small table":            {text: "def up\n  CustomFilter.find_each(&:touch)\nend\ndef down; end"},
		"a walk on the way down alone":         {text: "def up\n  add_column :lists, :x, :string\nend\ndef down\n  Account.find_each(&:touch)\nend"},
		"several things taken away":            {text: "def up\n  drop_view :a\n  drop_view :b\n  drop_view :a\nend\ndef down\n  x\nend", want: "(drop_view a, drop_view b)"},
		"nothing at all":                       {text: ""},
		"not closed":                           {text: "def up\n  A.update_all(x: 1)\ndef down"},
	} {
		t.Run(name, func(t *testing.T) {
			got := risks(Migration{Post: c.post}, c.text)
			switch {
			case name == "not closed": // read without a panic, and the rewrite is not lost
				if len(got) == 0 {
					t.Error("nothing is said")
				}
			case c.want == "" && len(got) > 0:
				t.Errorf("marked for nothing: %q", got)
			case c.want != "" && !strings.Contains(strings.Join(got, "\n"), c.want):
				t.Errorf("%q lacks %q", got, c.want)
			}
		})
	}
}
