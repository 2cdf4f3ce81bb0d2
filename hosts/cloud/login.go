package cloud

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Login is how a database lets its owner in. It must never be put into a journal, a
// message or an error.
type Login struct {
	User, Password string
	// TLS: it takes encrypted connections alone.
	TLS bool
}

// String hides the password from whoever prints a login.
func (l Login) String() string { return "a login of " + l.User }

// GoString is String, for %#v.
func (l Login) GoString() string { return l.String() }

// Login asks for the login of a database, by its ID or its name. Forks have the users and
// the passwords of what they are a copy of, so this is for databases that are made empty.
func (c *Client) Login(ctx context.Context, idOrName string) (Login, error) {
	got, err := c.database(ctx, c.begin(), idOrName)
	if err != nil {
		return Login{}, err
	}
	p := got.PrivateConnection
	if p == nil {
		p = got.Connection
	}
	if p == nil || p.Password == "" {
		return Login{}, fmt.Errorf("the database %s has no login yet, or the token may not see it (scope database:view_credentials)", got.Name)
	}
	return Login{User: p.User, Password: p.Password, TLS: p.SSL}, nil
}

// mostName is how long a database's name may be.
const mostName = 63

// CopyName is the name of a database that a rehearsal makes, what being "pg" or "valkey".
// It tells the run that made it and until when it is needed, also where tags are not shown.
func CopyName(fleet, run, what string, until time.Time) string {
	fit := func(text string) string {
		return strings.NewReplacer(":", "-", "_", "-").Replace(strings.ToLower(word(text)))
	}
	end := fmt.Sprintf("-%s-%s-until-%d", fit(run), what, until.Unix())
	name := "refit-" + fit(fleet)
	return name[:min(len(name), mostName-len(end))] + end
}
