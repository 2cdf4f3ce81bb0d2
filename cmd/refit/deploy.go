package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"vmst.io/refit/hosts/github"
	"vmst.io/refit/pipeline/report"
)

// gitHubConfig is what GitHub shows of runs.
type gitHubConfig struct {
	// Deployments is OWNER/REPO of the config repository, whose deployments show runs.
	Deployments string `yaml:"deployments"`
	Environment string `yaml:"environment"`
	// Ref is what is said to be deployed; empty for main. In a job of that repository it is
	// the job's commit.
	Ref   string        `yaml:"ref"`
	Token *secretConfig `yaml:"token"`
	API   string        `yaml:"api"`
}

// maxEnvironment is how long GitHub lets an environment's name be.
const maxEnvironment = 255

func (c config) checkGitHub(w *wrongs) {
	g := c.GitHub
	if g == nil {
		return
	}
	if _, err := github.ParseRepo(g.Deployments); err != nil {
		w.say("github.deployments", "%v", err)
	}
	if len(g.Environment) > maxEnvironment || strings.TrimSpace(g.Environment) != g.Environment {
		w.say("github.environment", "%q is no name of at most %d letters without spaces around it", g.Environment, maxEnvironment)
	}
	if strings.ContainsAny(g.Ref, " ~^:?*[\\") {
		w.say("github.ref", "%q is no branch, tag or commit", g.Ref)
	}
	if g.API != "" && !isURL(g.API, "https", "http") {
		w.say("github.api", "%q is no URL such as %s", g.API, github.DefaultBaseURL)
	}
	g.Token.check(w, "github.token")
}

// deployer is the way to the config repository's deployments; nil where no token is there,
// which known says. It asks nobody yet.
func (c config) deployer() (d *deployments, known string, err error) {
	g := c.GitHub
	repo, err := github.ParseRepo(g.Deployments)
	if err != nil {
		return nil, "", fmt.Errorf("github.deployments: %w", err)
	}
	if g.Token == nil {
		return nil, "no deployments of " + g.Deployments + " are made: refit.yml names no github.token", nil
	}
	o := github.Options{BaseURL: g.API, UserAgent: "refit/" + version, Answer: 10 * time.Second, Patience: 10 * time.Second}
	if o.Token, known, err = c.secret(g.Token, "the token for deployments"); err != nil {
		return nil, "", err
	}
	client, err := github.New(o)
	if err != nil {
		return nil, "", err
	}
	d = &deployments{client: client, repo: repo, environment: cmp.Or(g.Environment, "production"), ref: cmp.Or(g.Ref, "main"), url: "https://" + c.Domain + "/", token: o.Token}
	if at := os.Getenv("GITHUB_REPOSITORY"); strings.EqualFold(at, repo.String()) {
		d.ref = cmp.Or(os.Getenv("GITHUB_SHA"), d.ref)
		if run := os.Getenv("GITHUB_RUN_ID"); run != "" {
			d.log = cmp.Or(os.Getenv("GITHUB_SERVER_URL"), "https://github.com") + "/" + at + "/actions/runs/" + run
		}
	}
	return d, known, nil
}

// deployments are the config repository's, each named by its run.
type deployments struct {
	client                            *github.Client
	repo                              github.Repo
	environment, ref, url, log, token string
}

// Deploy implements report.Deployer. GitHub has no key against doing a thing twice, so it is
// looked for first: the deployment by its task, which is the run, and its newest status.
func (d *deployments) Deploy(ctx context.Context, r report.Run, state report.DeployState, words string) error {
	task := "refit:" + r.ID
	id, err := d.client.FindDeployment(ctx, d.repo, d.environment, task)
	if err != nil {
		return err
	}
	if id == 0 {
		about := fmt.Sprintf("%s of %s, %s → %s", r.Kind, r.Fleet, r.From, r.To)
		if id, err = d.client.CreateDeployment(ctx, d.repo, github.Deployment{Ref: d.ref, Task: task, Environment: d.environment, Description: about}); err != nil {
			return err
		}
	}
	is, err := d.client.DeploymentStatus(ctx, d.repo, id)
	if err != nil || is.State == github.DeploymentState(state) {
		return err
	}
	return d.client.SetDeploymentStatus(ctx, d.repo, id, github.DeploymentStatus{State: github.DeploymentState(state), Description: words, LogURL: d.log, EnvironmentURL: d.url})
}
