// Demo shows Dray's main job (make demo): it builds the binary, starts stand-ins of a CRM and of a campaign tool in this process,
// and runs the example shop three times: a first load, a run with nothing to send, and a run that sends only what changed.
//
// It looks at what the stand-ins hold, not at what Dray says about itself, and exits with 1 where the promise is not kept.
package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	hubspot "github.com/dray-dev/dray/connectors/destination/hubspot/standin"
	webhook "github.com/dray-dev/dray/connectors/destination/webhook/standin"
	"github.com/dray-dev/dray/connectors/standin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := show(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// demo is one showing.
type demo struct {
	page      page
	dir       string // the copy of the shop
	binary    string
	env       []string
	crm       standin.StandIn
	campaigns standin.StandIn
}

func show(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "dray-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d := &demo{page: newPage(os.Stdout), dir: filepath.Join(dir, "shop"), binary: filepath.Join(dir, "dray")}

	d.page.title("Dray: from a warehouse to the tools that use it, and only the difference")
	d.page.say("Building dray (the first build links DuckDB and takes a minute or two) …")
	if err := d.build(ctx); err != nil {
		return err
	}
	stop, err := d.start(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if err := os.CopyFS(d.dir, os.DirFS("examples/shop")); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.project, d.firstLoad, d.nothingToSend, d.onlyWhatChanged} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.page.title("That is the whole job. Next: docs/guides/getting-started.md")
	return nil
}

func (d *demo) build(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", d.binary, "./cmd/dray")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building dray: %w\n%s", err, out)
	}
	return nil
}

// start serves both stand-ins, each on an address of this machine; stop ends them.
func (d *demo) start(ctx context.Context) (stop func(), err error) {
	d.crm, d.campaigns = hubspot.New(), webhook.New()
	crm, stopCRM, err := serve(ctx, d.crm.Handler())
	if err != nil {
		return nil, err
	}
	campaigns, stopCampaigns, err := serve(ctx, d.campaigns.Handler())
	if err != nil {
		stopCRM()
		return nil, err
	}
	config := d.crm.Config(crm)
	d.env = append(os.Environ(),
		fmt.Sprintf("HUBSPOT_URL=%v", config["base_url"]), fmt.Sprintf("HUBSPOT_TOKEN=%v", config["access_token"]),
		"CAMPAIGNS_URL="+campaigns+"/signed", "CAMPAIGNS_SECRET="+webhook.Secret)
	return func() { stopCRM(); stopCampaigns() }, nil
}

// serve answers on a free port of this machine until stop is called.
func serve(ctx context.Context, handler http.Handler) (base string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // it ends with ErrServerClosed
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

// dray shows a command and its output.
func (d *demo) dray(ctx context.Context, args ...string) error {
	d.page.command("dray " + strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.binary, append(args, "--project", d.dir)...)
	cmd.Env = d.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	d.page.output(strings.ReplaceAll(out.String(), d.dir, "shop"))
	if err != nil {
		return fmt.Errorf("dray %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (d *demo) project(ctx context.Context) error {
	d.page.section("The project: a shop's orders, contacts and web events, and what three tools want of them")
	if err := d.dray(ctx, "validate"); err != nil {
		return err
	}
	return d.dray(ctx, "graph")
}

func (d *demo) firstLoad(ctx context.Context) error {
	d.page.section("1. The first run: everything is new")
	before := d.holds(ctx)
	if err := d.dray(ctx, "run"); err != nil {
		return err
	}
	now := d.holds(ctx)
	d.page.say("What the tools hold now (asked of them, not of Dray):")
	d.page.table(now.table())
	if err := d.profile(ctx); err != nil {
		return err
	}
	if len(before.contacts)+len(before.campaigns) != 0 || len(now.contacts) == 0 || len(now.members) == 0 || len(now.campaigns) == 0 || now.files != 1 {
		return fmt.Errorf("the first run should have filled every tool: %s", now)
	}
	return nil
}

// profile shows one person who is in several sources.
func (d *demo) profile(ctx context.Context) error {
	d.page.say("One person of them, and why the pieces belong together:")
	return d.dray(ctx, "profile", "shawn2@example.com", "--show-values")
}

func (d *demo) nothingToSend(ctx context.Context) error {
	d.page.section("2. Again: nothing changed, so nothing is sent")
	before := d.holds(ctx)
	if err := d.dray(ctx, "run"); err != nil {
		return err
	}
	now := d.holds(ctx)
	sent := now.writes - before.writes
	d.page.say(fmt.Sprintf("Requests that wrote anything, as the tools counted them: %d", sent))
	if sent != 0 || now.files != before.files {
		return fmt.Errorf("the second run should have sent nothing; it sent %d requests and %d files", sent, now.files-before.files)
	}
	return nil
}

func (d *demo) onlyWhatChanged(ctx context.Context) error {
	d.page.section("3. A few rows change")
	want, err := d.edit(ctx)
	if err != nil {
		return err
	}
	if err := d.dray(ctx, "plan", "--show-values"); err != nil {
		return err
	}
	before := d.holds(ctx)
	if err := d.dray(ctx, "run"); err != nil {
		return err
	}
	now := d.holds(ctx)
	changes := now.since(before)
	d.page.say("What is different at the tools:")
	d.page.lines(changes)
	if missing := difference(want, changes); len(missing) > 0 {
		return fmt.Errorf("exactly this should have changed at the tools:\n  %s\nbut this did:\n  %s",
			strings.Join(want, "\n  "), strings.Join(changes, "\n  "))
	}
	return nil
}
