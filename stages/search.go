package stages

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"vmst.io/refit/hosts/mastodon"
	"vmst.io/refit/hosts/node"
	"vmst.io/refit/pipeline"
)

// search gives changed mappings and new analysers to the search server. A change that needs an
// index to be deleted and imported anew is only named: that takes hours, and
// search is poor meanwhile, so a person chooses when.
type search struct {
	d Deps
	f *Facts
}

func (search) Name() string { return "search" }

func (search) Check(context.Context, pipeline.Say) error { return nil }

// Run never fails an upgrade that is otherwise done: search is optional, and what
// could not be done is said with its command.
func (s search) Run(ctx context.Context, say pipeline.Say) error {
	verdict, err := s.deploy(ctx, say)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		verdict = fmt.Sprintf("could not be brought up to date: %v. By hand, on %s: %s", err, s.d.migrator().Name, s.command("--only-mapping"))
	}
	s.f.Search = verdict
	say("%s", verdict)
	return nil
}

func (s search) deploy(ctx context.Context, say pipeline.Say) (string, error) {
	if len(s.f.Facets.ChewyChanged) == 0 {
		return "no index definition differs between the releases", nil
	}
	n, release := s.d.migrator(), s.f.To.Version.String()
	server, err := mastodon.ReadSearch(ctx, n.Agent, mastodon.SearchIn{Layout: s.d.Layout})
	if err != nil {
		return "", err
	}
	if !server.Enabled {
		return "search is not enabled", nil
	}
	out, job, err := s.d.finish(ctx, n, mastodon.SearchChanged(s.d.Layout, release, "refit-search-look.service"), say)
	if err != nil {
		return "", err
	}
	if !job.Succeeded() {
		return "", s.cause(n, job, out)
	}
	changed, err := mastodon.ReadSearchChanged(out)
	if err != nil {
		return "", err
	}
	if len(changed) == 0 {
		return "the search server has every definition already", nil
	}
	var names, missing, anew, only []string
	for _, c := range changed {
		switch {
		case c.Missing:
			missing, only = append(missing, c.Name), append(only, c.Only())
		case !c.InPlace():
			anew, only = append(anew, c.Name), append(only, c.Only())
		default:
			names = append(names, c.Name)
		}
	}
	var told []string
	if len(missing) > 0 {
		told = append(told, "the search server has no index for "+strings.Join(missing, ", "))
	}
	if len(anew) > 0 {
		told = append(told, strings.Join(anew, ", ")+" changed in more than mappings and new analysers")
	}
	if len(told) > 0 {
		return fmt.Sprintf("%s: that is deleted, made and filled anew, at a time of your choice, by, on %s: %s", strings.Join(told, "; "), n.Name, s.command("--only "+strings.Join(only, " "))), nil
	}
	out, job, err = s.d.finish(ctx, n, mastodon.SearchMapping(s.d.Layout, release, "refit-search-mapping.service"), say)
	if err != nil {
		return "", err
	}
	if !job.Succeeded() {
		return "", errors.Join(s.cause(n, job, out), s.closed(ctx, n))
	}
	return "new definitions given to the search server: " + strings.Join(names, ", "), nil
}

// cause is a job's failure with the last line that tells of it: what failed here stands
// in a note, which has no room for more.
func (search) cause(n Node, job node.Job, out string) error {
	err := jobError(n, job, out)
	if e, ok := errors.AsType[*pipeline.Evidence](err); ok {
		return fmt.Errorf("%w: %s", e.Err, e.Lines[len(e.Lines)-1])
	}
	return err
}

// closed names the indexes that answer no search: tootctl closes an index to change
// it, and leaves it closed where the change is refused.
func (s search) closed(ctx context.Context, n Node) error {
	server, err := mastodon.ReadSearch(ctx, n.Agent, mastodon.SearchIn{Layout: s.d.Layout})
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range server.Indexes {
		if i.Closed {
			errs = append(errs, fmt.Errorf("the index %s is closed and no search in it is answered until it is opened: POST /%s/_open", i.Name, i.Name))
		}
	}
	return errors.Join(errs...)
}

func (s search) command(option string) string {
	return fmt.Sprintf("cd %s && sudo -u %s RAILS_ENV=production .refit/bin/bundle exec bin/tootctl search deploy %s", s.d.Layout.Live, s.d.Layout.User, option)
}

// Undo leaves the mappings: they only add fields that the old release ignores.
func (search) Undo(context.Context, pipeline.Say) error { return nil }
