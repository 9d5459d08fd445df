// Package destination is the contract between the engine and a tool that data is delivered to.
//
// A connector declares a Spec and writes batches; it holds only what is the vendor's. Retrying, pacing, splitting, paging,
// journalling and counting are the engine's, once (sync/deliver). Every row of a batch gets exactly one Outcome, in order:
// Delivered is said only where the vendor said so for that row, and a row that an answer does not mention is Uncertain (I1).
package destination

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/dray-dev/dray/connectors/httpx"
	"github.com/dray-dev/dray/connectors/warehouse"
)

// Mode is how a sync treats adds, updates and rows that left (DESIGN §5).
type Mode string

// The modes.
const (
	Upsert Mode = "upsert"
	Update Mode = "update"
	Insert Mode = "insert"
	Mirror Mode = "mirror"
)

// Operation is what a change asks of the destination.
type Operation string

// The operations. OpUpdate never creates where the object's Modes list Update; in upsert and mirror mode Add and Update may both
// be written by the vendor's upsert.
const (
	OpAdd    Operation = "add"
	OpUpdate Operation = "update"
	OpRemove Operation = "remove"
	OpRekey  Operation = "rekey" // the record keeps its RemoteID and gets a new key
)

// Spec declares a connector. It is a pure value: the same on every call.
type Spec struct {
	Type    string // in YAML: type: hubspot
	Title   string // HubSpot
	Summary string // one sentence
	Config  []Option
	Objects []Object
	// AnyObject: any object name is taken, with the shape of Objects[0] (webhook, file).
	AnyObject bool
	// OwnsObjects: what lies there is Dray's own, so that every row sent has origin created (DESIGN §5, Origin).
	OwnsObjects bool
	// Notifies: its Destination is a Notifier, for alerts:. One without Objects is nothing else.
	Notifies bool
	// Finds: its Destination is a Finder, so that a field may hold the id of another record (lookup:).
	Finds       bool
	Rate        Rate
	Concurrency int // batches under way at once; 0 = 1. See Spec.Workers
	// Settle is how long an unanswered request may still be applied. nil = the engine's default (10 minutes or more).
	Settle *time.Duration
	// Timeout of one request; 0 = 30 s.
	Timeout time.Duration
	// Async: Write may answer Accepted with a job, whose rows get their outcome later; the Destination is a Poller. nil = never.
	Async *Async
	// Limits are sentences with source for the connector's page: what the vendor allows.
	Limits []string
}

// Async is how long an asynchronous vendor takes.
type Async struct {
	Every time.Duration // the first wait between two looks at a job; it doubles up to sixteen times that. 0 = 2 s
	Wait  time.Duration // how long a run waits for the jobs it handed over before it ends with them pending; 0 = 2 min
	Life  time.Duration // how long the vendor knows a job; an older one makes its rows uncertain. 0 = 7 days
}

// Rate is what the vendor allows; zero = no limit known.
type Rate struct {
	Requests int
	Per      time.Duration
	// The headers in which the vendor's answers tell the limit that holds for this account, and its window in milliseconds; "" =
	// they do not.
	LimitHeader, WindowHeader string
	// Daily is how many requests the account may make in a day, all apps together; 0 = no such limit known.
	Daily int64
}

// Option is one key of a destination's configuration or of a sync's `options:`.
type Option struct {
	Name     string
	Type     string // string, int, bool, duration, map
	Required bool
	Secret   bool // must be a ${reference} in YAML, never printed
	Default  string
	Enum     []string
	Example  string // as written in YAML, for the connector's page
	Doc      string
}

// Object is something a destination receives.
type Object struct {
	Name    string
	Doc     string
	Options []Option
	Modes   []Mode
	// Removes lists the on_remove acts: delete, clear, set, ignore, or the name of a vendor's action (archive).
	Removes       []string
	DefaultRemove string // for memberships: delete
	// AnyRemove: {action: NAME} is taken with any name (webhook, file, where every act but ignore is a remove).
	AnyRemove bool
	// Withdraw is the act by which a row is taken back whose person does not consent any more, in every mode: delete, clear or the
	// name of a vendor's action; "" = it cannot be, so that a destination with a purpose cannot take the object.
	Withdraw string
	Keys     []Key
	// AnyKey: the key may have any name and several columns (webhook, file). OneColumn: any name, one column (hubspot).
	AnyKey    bool
	OneColumn bool
	Fields    []Field
	// OpenFields: fields that are not listed are taken too.
	OpenFields bool
	MaxBatch   int // rows a request, at most; 0 = 100. See Spec.BatchSize
	MaxBytes   int // bytes a request body; 0 = no limit known; else the destination is a Sizer. See Spec.BodySize
	// Replaces: an update replaces the record, so all fields are always sent.
	Replaces bool
	// TellsCreated: outcomes say whether the record was created or matched.
	TellsCreated bool
	// Rekey: the identity of a record can be changed by its RemoteID.
	Rekey bool
	// Reads: the destination is a Reader of this object, so that fields may be written only where it has nothing.
	Reads bool
	// Membership: rows are members of a container (list, audience) and Dray's own; MembersByID: written by RemoteID,
	// which comes from the sync named in `via:` or from Resolver; a rekey of one is written like an add, of the same record.
	Membership  bool
	MembersByID bool
	// MembershipLife is after how long the vendor drops a member that was not sent again; 0 = never.
	MembershipLife time.Duration
	// Container names the options that choose the container (list, audience): part of the binding.
	Container []string
	// Mixed: one batch may hold changes of different operations. Otherwise the engine keeps them apart.
	Mixed bool
}

// Equality is how the vendor compares a key.
type Equality string

// The equalities; the engine normalises dest_key accordingly, in SQL.
const (
	Exact           Equality = ""
	CaseInsensitive Equality = "case_insensitive" // lower(trim(x))
)

// Key is an identity an object can be found by.
type Key struct {
	Name     string
	Equality Equality
	Doc      string
}

// Field is something an object holds.
type Field struct {
	Name     string
	Kinds    []warehouse.Kind // what it takes; empty = anything
	ReadOnly bool
	Doc      string
}

// Config is a destination's configuration after references were resolved. Values are string, int64, bool, time.Duration or
// map[string]string, as the Option's Type says; unset options have their default.
type Config map[string]any

// String, and the other getters, give the zero value for what is not set.
func (c Config) String(name string) string { s, _ := c[name].(string); return s }

// Int gives an int option.
func (c Config) Int(name string) int64 { n, _ := c[name].(int64); return n }

// Bool gives a bool option.
func (c Config) Bool(name string) bool { b, _ := c[name].(bool); return b }

// Duration gives a duration option; ok is false where it is not set.
func (c Config) Duration(name string) (d time.Duration, ok bool) {
	d, ok = c[name].(time.Duration)
	return d, ok
}

// Map gives a map option.
func (c Config) Map(name string) map[string]string { m, _ := c[name].(map[string]string); return m }

// Env is what the engine lends a connector.
type Env struct {
	HTTP    *httpx.Client
	Log     *slog.Logger
	Now     func() time.Time
	Dir     string // the project's directory: relative paths in the configuration start here
	Project string
}

// Connector makes destinations of one type.
type Connector interface {
	Spec() Spec
	Open(ctx context.Context, cfg Config, env Env) (Destination, error)
}

// Destination is an open connection to one account. Write is safe for concurrent use.
type Destination interface {
	// Check proves that the credentials work and tells which account they belong to. It changes nothing there.
	Check(ctx context.Context) (Account, error)
	// Write delivers a batch in one request (or as few as the vendor allows) and returns one outcome per change, in order.
	// An *Error says what befell the batch as a whole (then outcomes are nil). Any other error is Unknown.
	// The changes are the engine's again once it returns: a destination that needs one later copies it.
	Write(ctx context.Context, b *Batch) ([]Outcome, error)
	Close() error
}

// Account is what the connection check reads: ID binds the snapshot to it; never a secret.
type Account struct{ ID, Name string }

// FieldLister is a Destination that can list an object's fields live.
type FieldLister interface {
	Fields(ctx context.Context, object string, options Config) ([]Field, error)
}

// Containers is a Destination whose members live in a list or audience chosen by options: it finds it, or creates it where
// the options allow, and returns the vendor's id.
type Containers interface {
	Container(ctx context.Context, object string, options Config) (id string, err error)
}

// Resolver is a Destination that finds records by key. ids has one entry per change, "" for a record that does not exist.
type Resolver interface {
	Resolve(ctx context.Context, b *Batch) (ids []string, err error)
}

// Finder is a Destination that finds records of any of its objects, synced or not, by a field that is unique there. ids has one entry
// per value, "" for a record that does not exist. by tells the field's name, and the kind and type of the values, none of which is
// nil. An object or field that the vendor does not know, or that is not unique, is an *Error of class Stop. Safe for concurrent use.
type Finder interface {
	Find(ctx context.Context, object string, by Column, values []any) (ids []string, err error)
}

// Reader is a Destination that can tell what stands in a record before it is written to: filled has one entry per change and in
// it one per field, counted in the Schema, that says whether the record has a value there; all false for one that does not exist.
type Reader interface {
	Filled(ctx context.Context, b *Batch, fields []int) (filled [][]bool, err error)
}

// Poller is a Destination that takes a batch as a job: Write answers Accepted for its rows with the job's id, and what became of
// them is asked later, also by another process than the one that handed them over. Both methods are safe for concurrent use.
type Poller interface {
	// Poll tells whether the job ended. An *Error of class NotFound says that the vendor does not know it.
	Poll(ctx context.Context, job string) (ended bool, err error)
	// Results are the outcomes of a job that ended, one per change. b holds the changes that the job has, as they were sent, in
	// the order of the batch that made it. Accepted is final here: the vendor never tells more. A change that the vendor's answer
	// does not mention is Unknown.
	Results(ctx context.Context, job string, b *Batch) ([]Outcome, error)
}

// Sizer is a Destination that tells how large a request would be: base bytes, and those that each change adds. The engine cuts batches
// by it, and rejects a change that no request can hold. A change that cannot be encoded counts nothing: Write says what is wrong.
type Sizer interface {
	Sizes(b *Batch) (base int, each []int)
}

// TakesJSON is a Destination that sends whole rows as JSON and does not look at their values: it is given Change.JSON where the
// engine has it at less cost, from the warehouse's own result. The object must be declared Replaces.
type TakesJSON interface {
	TakesJSON(object string) bool
}

// Finisher is a Destination whose rows are delivered only when the run ends (one file a run). Outcomes of Write are then
// provisional: nothing is acknowledged before Finish has returned nil. The engine calls Finish once, after the last Write, only
// if something was written; a run that ends without Finish leaves nothing behind, or Abort is called.
type Finisher interface {
	Finish(ctx context.Context, run Run) error
	Abort(ctx context.Context, run Run) error
}

// Notifier is a Destination that takes messages about syncs. It may be asked to send one again: whether the first try arrived
// is not always known.
type Notifier interface {
	Notify(ctx context.Context, n Notice) error
}

// Notice is a message about a sync. It holds counts, names and codes, never a customer's value (I6).
type Notice struct {
	State   string // failed, partial, held, stale, rejected, recovered
	Project string
	Target  string // "" for the default one
	Sync    string
	RunID   string // "" where no run is meant: stale
	Title   string // one line: crm: vips_to_crm failed
	Text    string // some lines: why, with counts
	At      time.Time
	ID      string // the same when it is sent again
}

// Run identifies the run a batch belongs to.
type Run struct {
	ID, Sync, Object string
	Mode             Mode
	Started          time.Time
}

// Schema describes the columns of a batch's changes; shared by all batches of a run.
type Schema struct {
	Key    []Column
	Fields []Column
}

// Column is one key or field as the destination sees it. Path is Name split at the dots that nest. Type is the warehouse's own
// name of the type, DECIMAL(18,2), where it is known.
type Column struct {
	Name string
	Path []string
	Kind warehouse.Kind
	Type string
}

// Batch is what one Write delivers. Connectors must not keep or change it.
type Batch struct {
	Run       Run
	Object    string
	Options   Config
	Container string // from Containers
	Schema    *Schema
	Changes   []Change
	// Attempt counts from 1; over 1 an earlier try of these changes was refused or not answered.
	Attempt int
}

// Change is one row to deliver. Key and Fields are aligned with the Schema; values are those of warehouse.Rows.
type Change struct {
	Operation Operation
	// Remove says how a row is removed: delete, clear, set or a vendor's action; empty otherwise.
	Remove   string
	Key      []any
	OldKey   []any // of a rekey
	RemoteID string
	Fields   []any
	// Send has one bit a field: the fields to send (changed ones, all for adds, those to clear or set for removes). nil = all.
	Send     []bool
	DedupeID string
	// JSON is, for an object of a TakesJSON, "key":{…},"fields":{…} with all fields, as encode writes them, in place of Key and
	// Fields, which are nil then. nil = the values are given, as of a row that JSON cannot carry.
	JSON []byte
}

// Sends tells whether field i is to be sent.
func (c *Change) Sends(i int) bool { return c.Send == nil || c.Send[i] }

// Class is what an answer means for a row; the engine acts on it.
type Class int

// The classes.
const (
	Unknown   Class = iota // sent, and not known whether applied (time-out, connection lost, row not mentioned)
	Delivered              // the vendor said so for this row
	Rejected               // the vendor refused this row; not applied
	NotFound               // the record does not exist there; not applied
	Retry                  // not applied, worth another try (429, connection refused)
	Split                  // the batch was refused as a whole: find the bad row
	Stop                   // nothing can be delivered: revoked token, missing scope
	Accepted               // an asynchronous vendor took it: with a Job its result is pending, without one that is final
)

// String is the class's name in logs.
func (c Class) String() string {
	return [...]string{"unknown", "delivered", "rejected", "not_found", "retry", "split", "stop", "accepted"}[c]
}

// Origin tells whether a delivered record was new there.
type Origin string

// The origins an outcome may tell.
const (
	OriginUnknown Origin = ""
	Created       Origin = "created"
	Matched       Origin = "matched"
)

// Outcome is what became of one change.
type Outcome struct {
	Class    Class
	Code     string // the vendor's code, or http_422, timeout
	Message  string // the vendor's words; the engine takes the row's values out before it is stored (I6)
	RemoteID string
	Origin   Origin
	// Exists, of a Rejected add: the vendor did not make the record because one with a unique value of this row is there. Where an
	// earlier try was not answered, that record may be the row's own.
	Exists bool
	Job    string // of Accepted: what Poller is asked for
}

// Error is what befell a batch as a whole. Class is one of Unknown, Retry, Split, Stop, Rejected (all rows).
type Error struct {
	Class      Class
	Code       string
	Message    string
	Hint       string
	RetryAfter time.Duration // 0 = the vendor did not say
	// Mapping: a Stop that is the project's fault and not the vendor's: a field that does not exist there.
	Mapping bool
	// Settles: the request may still be applied later (time-out, connection lost, 502, 504), as against an answered 500.
	Settles bool
	Err     error
}

func (e *Error) Error() string {
	s := e.Code
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// BatchSize is how many rows a request to the object takes: what the option batch_size says where the connector declares one
// (its default where the configuration does not say), and never more than the object's MaxBatch.
func (s Spec) BatchSize(o Object, cfg Config) int {
	size := o.MaxBatch
	if size == 0 {
		size = 100
	}
	if n := s.number("batch_size", cfg); n > 0 {
		size = min(size, n)
	}
	return size
}

// BodySize is how many bytes a request to the object may have: what the option max_bytes says where the connector declares one, and
// never more than the object's MaxBytes; 0 = no limit.
func (s Spec) BodySize(o Object, cfg Config) int {
	n := s.number("max_bytes", cfg)
	if n <= 0 || o.MaxBytes > 0 && n > o.MaxBytes {
		return o.MaxBytes
	}
	return n
}

// Workers is how many batches are under way at once: Spec.Concurrency, or what the option concurrency says where the connector
// declares one and takes more than one batch at a time.
func (s Spec) Workers(cfg Config) int {
	if n := s.number("concurrency", cfg); n > 0 && s.Concurrency > 1 {
		return n
	}
	return max(1, s.Concurrency)
}

// number is an int option's value, or its default where the configuration does not say (the conformance suite reads all defaults); 0
// where the connector does not declare it.
func (s Spec) number(option string, cfg Config) int {
	for _, o := range s.Config {
		if o.Name != option {
			continue
		}
		n := int(cfg.Int(option))
		if n == 0 {
			n, _ = strconv.Atoi(o.Default)
		}
		return n
	}
	return 0
}

// FindObject is the object of that name; with AnyObject every name is taken.
func (s Spec) FindObject(name string) (Object, bool) {
	for _, o := range s.Objects {
		if o.Name == name {
			return o, true
		}
	}
	if s.AnyObject && len(s.Objects) > 0 {
		o := s.Objects[0]
		o.Name = name
		return o, true
	}
	return Object{}, false
}
