package cloud_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmst.io/refit/hosts/cloud"
)

func TestALoginIsGivenAndNeverPrinted(t *testing.T) {
	play(t, func(w *world) {
		db := database()
		db["private_connection"] = obj{"host": "private-db.example", "port": 25061, "user": "default", "password": "canary-password", "ssl": true}
		w.dbs[uuid(3)] = db
		l, err := w.client().Login(w.Context(), uuid(3))
		w.must(err)
		if l.User != "default" || l.Password != "canary-password" || !l.TLS {
			w.Errorf("%+v", l)
		}
		if shown := fmt.Sprintf("%v %+v %#v %s", l, l, l, l); strings.Contains(shown, "canary") {
			w.Error(shown)
		}
		// A token that may not see logins is given none.
		db["private_connection"] = obj{"host": "private-db.example", "port": 25061}
		if _, err := w.client().Login(w.Context(), uuid(3)); err == nil || !strings.Contains(err.Error(), "database:view_credentials") {
			w.Errorf("%v", err)
		}
		_, err = w.client().Login(w.Context(), "other")
		w.fails(err, cloud.ErrNotFound)
	})
}

func TestACopysNameFitsAndTellsItsRun(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9-]{2,62}$`) // as the provider takes names of databases
	until := time.Unix(1764000000, 0)
	for _, fleet := range []string{"trek", "Trek_2:x", strings.Repeat("long", 20)} {
		got := cloud.CopyName(fleet, "20261123-230000-fghij", "valkey", until)
		if !form.MatchString(got) || !strings.HasSuffix(got, "-20261123-230000-fghij-valkey-until-1764000000") || !strings.HasPrefix(got, "refit-") {
			t.Errorf("%q", got)
		}
	}
}
