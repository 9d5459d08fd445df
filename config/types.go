// Package config loads a project: YAML files and SQL models become a Project in which every value knows its place.
//
// The Go types below are the language: the loader, the JSON Schema (`dray schema`) and the reference page are all made from
// them, so that they cannot differ. A key's name is its `yaml` tag, its meaning the `doc` tag; `dray:"…"` holds the rest:
// required, enum=a|b, default=x, root (only in dray.yaml), alias=y, unsupported (refused as "not supported yet"; unsupported=a|b
// refuses words of the enum), for=a|b (of a warehouse's keys: the types that have it), secret (must be a reference). The types that YAML may write in several ways are listed in forms.go.
package config

import (
	"reflect"
	"time"

	"github.com/dray-dev/dray/internal/diag"
)

// Project is everything below one dray.yaml, after target, defaults and references were applied.
type Project struct {
	Node
	Dir        string // absolute
	TargetName string // "" for the default target

	Name         string         `yaml:"name" dray:"root,required" doc:"The project's name; it salts profile ids and binds snapshots."`
	Version      int            `yaml:"version" dray:"root,required" doc:"Version of this language: 1."`
	Warehouse    *Warehouse     `yaml:"warehouse" dray:"root" doc:"Where the data is. Default: DuckDB in <name>.duckdb."`
	Schema       string         `yaml:"schema" dray:"root,default=dray" doc:"Schema of Dray's own tables and of what it builds."`
	State        string         `yaml:"state" dray:"root,default=.dray/state.db" doc:"Control state: a SQLite file, or postgres://…"`
	AsOf         string         `yaml:"as_of" dray:"root,default=now" doc:"The clock of a run; also --as-of."`
	Retention    Duration       `yaml:"retention" dray:"root,default=90d" doc:"How long deliveries and runs are kept."`
	Schedules    string         `yaml:"schedules" dray:"root,enum=on|off,default=on" doc:"off: nothing runs by itself."`
	Targets      []*Target      `yaml:"targets" doc:"target: settings that replace those above; a target needs a schema of its own."`
	Defaults     *Defaults      `yaml:"defaults" doc:"What fills in where things leave it out."`
	Vars         map[string]any `yaml:"vars" doc:"Values for {{ var('name') }}; also --vars."`
	Sources      []*Source      `yaml:"sources" doc:"Tables and files that others load."`
	Models       []*Model       `yaml:"models" doc:"Named queries."`
	Entities     []*Entity      `yaml:"entities" doc:"Who is modelled: identity, profiles, traits."`
	Segments     []*Segment     `yaml:"segments" doc:"Named sets of profiles."`
	Destinations []*Destination `yaml:"destinations" doc:"Configured connections to tools."`
	Syncs        []*Sync        `yaml:"syncs" doc:"What is delivered where."`
	Alerts       []*Alert       `yaml:"alerts" doc:"Who hears of syncs that are not well."`
	DBT          *DBT           `yaml:"dbt" doc:"A dbt project, whose models ref() and whose sources source() find."`
	Macros       []SQLFile      `yaml:"-"` // macros/*.sql
}

// Defaults fill what things leave out. They are applied when the project is loaded; nothing else needs to look here.
type Defaults struct {
	Node
	Syncs *Sync `yaml:"syncs" doc:"Keys of syncs; guard and retry are filled key by key."`
}

// Target overrides top-level settings; Name is its key under targets:.
type Target struct {
	Node
	Name string
}

// SQLFile is a file's text with its path relative to the project.
type SQLFile struct{ Path, Text string }

// Warehouse says which engine and how to reach it. Options holds every key but type, as the engine's connector takes them.
type Warehouse struct {
	Node
	Type        string   `yaml:"type" dray:"required,enum=duckdb|postgres|bigquery|snowflake" doc:"The engine. Each has keys of its own."`
	Path        string   `yaml:"path" dray:"for=duckdb" doc:"The file, from the project's folder; it is made where there is none. Default: <name>.duckdb."`
	MemoryLimit string   `yaml:"memory_limit" dray:"for=duckdb" doc:"How much memory DuckDB may use before it spills to disk: 4GB, 80%. Default: DuckDB's own."`
	Threads     int      `yaml:"threads" dray:"for=duckdb" doc:"How many threads DuckDB uses. Default: one a core."`
	Wait        Duration `yaml:"wait" dray:"for=duckdb" doc:"How long to wait for a file that another process has open. Default: 5s."`

	Attach map[string]any `yaml:"attach" dray:"for=duckdb" doc:"name: path of other DuckDB files, which are only read; a source names one as its database:."`

	URL              string `yaml:"url" dray:"for=postgres" doc:"postgres://user:password@host:5432/database; with a password in it, a reference. Or the keys that follow."`
	Host             string `yaml:"host" dray:"for=postgres|snowflake" doc:"The server; a folder of sockets where it begins with /. Snowflake's default: what account says."`
	Port             string `yaml:"port" dray:"for=postgres|snowflake" doc:"Default: 5432; Snowflake's 443."`
	User             string `yaml:"user" dray:"for=postgres|snowflake" doc:"Who connects."`
	Password         string `yaml:"password" dray:"for=postgres|snowflake,secret" doc:"The user's password."`
	Database         string `yaml:"database" dray:"for=postgres|snowflake" doc:"The database."`
	SSLMode          string `yaml:"sslmode" dray:"for=postgres,enum=disable|allow|prefer|require|verify-ca|verify-full" doc:"How the connection is encrypted. Default: prefer."`
	Role             string `yaml:"role" dray:"for=postgres|snowflake" doc:"A role that is taken on after connecting (SET ROLE); Snowflake's default: the user's."`
	StatementTimeout string `yaml:"statement_timeout" dray:"for=postgres|snowflake" doc:"How long one statement may take: 30m. Default: the server's."`
	WorkMem          string `yaml:"work_mem" dray:"for=postgres" doc:"Memory of one hash or sort. Default: 64MB."`
	Connections      string `yaml:"connections" dray:"for=postgres|snowflake" doc:"How many connections at most. Default: 8."`

	GoogleProject     string         `yaml:"project" dray:"for=bigquery" doc:"The project's id where Dray's dataset is, and all datasets of which no other project is said."`
	Dataset           string         `yaml:"dataset" dray:"for=bigquery" doc:"The dataset of tables that SQL names without one. Dray's own tables are in schema:."`
	ExecutionProject  string         `yaml:"execution_project" dray:"for=bigquery" doc:"The project in which jobs run and which pays for them. Default: project."`
	Location          string         `yaml:"location" dray:"for=bigquery" doc:"Where the datasets are: EU, US, europe-west1. Default: dataset's, else as BigQuery finds out for each job."`
	Keyfile           string         `yaml:"keyfile" dray:"for=bigquery" doc:"A file with a service account's key, from the project's folder. Default: the application default credentials."`
	KeyfileJSON       string         `yaml:"keyfile_json" dray:"for=bigquery,secret" doc:"The key itself instead of its file."`
	Impersonate       string         `yaml:"impersonate_service_account" dray:"for=bigquery" doc:"The service account as which to work; the credentials must be allowed to make tokens for it."`
	Priority          string         `yaml:"priority" dray:"for=bigquery,enum=interactive|batch" doc:"When queries start: at once, or when there is room. Default: interactive."`
	MaximumBytes      string         `yaml:"maximum_bytes_billed" dray:"for=bigquery" doc:"The most that one statement may cost, in bytes: one that would cost more fails without any."`
	JobTimeout        int            `yaml:"job_execution_timeout_seconds" dray:"for=bigquery" doc:"After how long BigQuery stops a job. Default: its own limit, six hours."`
	Labels            map[string]any `yaml:"labels" dray:"for=bigquery" doc:"Labels of every job, beside Dray's own: dray, dray_command, dray_sync, dray_run."`
	StorageReadAPI    *bool          `yaml:"storage_read_api" dray:"for=bigquery" doc:"Whether large results are read by the Storage Read API, where the permission for it is there. Default: true."`
	APIEndpoint       string         `yaml:"api_endpoint" dray:"for=bigquery" doc:"Another address of the REST API: a private one, or a stand-in."`
	StorageAPIAddress string         `yaml:"storage_api_endpoint" dray:"for=bigquery" doc:"Another address of the Storage Read API: host:port."`

	Account          string `yaml:"account" dray:"for=snowflake" doc:"The account's identifier: myorg-myaccount, or a locator with its region, xy12345.eu-central-1."`
	PrivateKey       string `yaml:"private_key" dray:"for=snowflake,secret" doc:"The user's private key: PKCS #8 in PEM, or what stands between its first and last line."`
	PrivateKeyPath   string `yaml:"private_key_path" dray:"for=snowflake" doc:"The file of the key instead, from the project's folder."`
	KeyPassphrase    string `yaml:"private_key_passphrase" dray:"for=snowflake,secret" doc:"What opens an encrypted key."`
	Authenticator    string `yaml:"authenticator" dray:"for=snowflake,enum=snowflake|snowflake_jwt|oauth" doc:"How to sign in: with a password, a key or a token. Default: with what is set."`
	Token            string `yaml:"token" dray:"for=snowflake,secret" doc:"An OAuth access token. It is not renewed."`
	SnowflakeCompute string `yaml:"warehouse" dray:"for=snowflake" doc:"The virtual warehouse that computes. Default: the user's."`
	DefaultSchema    string `yaml:"schema" dray:"for=snowflake" doc:"The schema of tables that SQL names without one. Dray's own tables are in the project's schema:."`
	QueryTag         string `yaml:"query_tag" dray:"for=snowflake" doc:"A text that is put into the query tag of every statement, beside Dray's own: the command, the sync, the run."`
	SessionKeepAlive bool   `yaml:"client_session_keep_alive" dray:"for=snowflake" doc:"Whether idle sessions are kept from ending after four hours. Default: false."`
	Protocol         string `yaml:"protocol" dray:"for=snowflake,enum=https|http" doc:"http is for a stand-in on this machine. Default: https."`

	// Options are the keys of the engine that are written, for whoever opens it.
	Options map[string]any `yaml:"-"`
}

// fillOptions hands on what is written for the engine.
func (w *Warehouse) fillOptions() {
	w.Options = map[string]any{}
	keys, _ := keysOf(reflect.TypeFor[Warehouse]())
	for _, k := range keys {
		if !k.isFor(w.Type) || k.name == "type" || !w.good(k.name) {
			continue
		}
		switch v := reflect.ValueOf(w).Elem().Field(k.index).Interface().(type) {
		case Duration:
			w.Options[k.name] = v.String()
		case *bool:
			if v != nil {
				w.Options[k.name] = *v
			}
		default:
			w.Options[k.name] = v
		}
	}
}

// Source is a group of tables.
type Source struct {
	Node
	Name     string         `yaml:"name" dray:"required" doc:"As in source('name', 'table')."`
	Database string         `yaml:"database" dray:"alias=project|catalog" doc:"The database, project or catalog that holds the schema, as the warehouse calls it."`
	Schema   string         `yaml:"schema" doc:"The schema that holds the tables."`
	Timezone string         `yaml:"timezone" doc:"Of timestamps without a zone. Default: UTC."`
	Tables   []*SourceTable `yaml:"tables" doc:"Relations in the warehouse."`
	Files    []*SourceFile  `yaml:"files" doc:"Read in place (DuckDB only): a path or glob, or a map."`
	Tags     []string       `yaml:"tags" doc:"For selectors: tag:x."`
}

// SourceTable is a relation that others load.
type SourceTable struct {
	Node
	Name     string              `yaml:"name" dray:"required" doc:"The table's name in the warehouse."`
	LoadedAt string              `yaml:"loaded_at" doc:"The column that says when a row was loaded."`
	Fresh    Duration            `yaml:"fresh" doc:"How old the newest row may be, by loaded_at: syncs that read the table stop when it is older."`
	Columns  map[string]ColumnIs `yaml:"columns" doc:"What Dray should know of single columns."`
}

// DBT is a dbt project beside this one.
type DBT struct {
	Node
	Manifest string   `yaml:"manifest" dray:"required" doc:"The manifest.json that dbt writes to its target folder, from the project's folder. Its run_results.json and sources.json are read beside it."`
	MaxAge   Duration `yaml:"max_age" doc:"An older manifest is an error. Default: any age."`
	Owner    string   `yaml:"owner" doc:"Whose the syncs without a team are in dbt's docs: a name or a mail address. Default: the project's name."`
	URL      string   `yaml:"url" doc:"Where people find the syncs, for dbt's docs."`
}

// ColumnIs says what a source's column is.
type ColumnIs struct {
	Node
	NeverSend bool `yaml:"never_send" doc:"No sync may send it, nor anything made of it. On a model, false says that a column is fit to be sent although it is made of one that is not."`
	Personal  bool `yaml:"personal" dray:"unsupported" doc:"It holds personal data."`
}

// SourceFile is a table read from files; Name is its key under files:.
type SourceFile struct {
	Node
	Name      string              `yaml:"-"`
	Path      string              `yaml:"path" dray:"required" doc:"A path or glob, from the project's folder; or a URL."`
	Types     map[string]string   `yaml:"types" doc:"column: type, where the guess is wrong ({postcode: text})."`
	Format    string              `yaml:"format" dray:"enum=csv|parquet|json" doc:"What the files are. Default: by the path's ending."`
	Delimiter string              `yaml:"delimiter" doc:"Between columns of a CSV file. Default: found out."`
	Header    *bool               `yaml:"header" dray:"default=true" doc:"CSV: the first line names the columns. false: they are column0, column1 …; with ten columns or more column00, column01 …"`
	Quote     string              `yaml:"quote" doc:"CSV: the character around values that hold delimiters. Default: \"."`
	Escape    string              `yaml:"escape" doc:"CSV: the character before a quote within a value. Default: the quote itself."`
	Nulls     Strings             `yaml:"nulls" doc:"CSV: the text, or texts, that stand for NULL. Default: an empty value."`
	Encoding  string              `yaml:"encoding" dray:"enum=utf-8|utf-16|latin-1" doc:"CSV: how characters are written. Default: utf-8."`
	Union     bool                `yaml:"union_by_name" doc:"Several files: columns go by their names, and one that a file lacks is NULL there. Default: all files have the columns of the first."`
	LoadedAt  string              `yaml:"loaded_at" doc:"The column that says when a row was loaded."`
	Fresh     Duration            `yaml:"fresh" doc:"How old the newest row may be, by loaded_at: syncs that read the file stop when it is older."`
	Columns   map[string]ColumnIs `yaml:"columns" doc:"What Dray should know of single columns."`
	Hive      bool                `yaml:"hive" doc:"Folders such as dt=2026-01-31 become columns."`
}

// Model is a named query.
type Model struct {
	Node
	Name         string              `yaml:"name" dray:"required" doc:"As in ref('name'); also the name of what is built."`
	PrimaryKey   Strings             `yaml:"primary_key" doc:"The column, or columns, that tell rows apart."`
	Materialized string              `yaml:"materialized" dray:"enum=view|table|incremental,default=view" doc:"view is read once a run into what needs it; table is built anew; incremental adds what is new."`
	Lookback     Duration            `yaml:"lookback" doc:"incremental: how far before the newest row, by loaded_at or the first time in primary_key, rows are read again and replaced. In a query that uses is_incremental it is the interval {{ this.lookback }}."`
	SQL          string              `yaml:"sql" doc:"The query. Exactly one of this, a file models/<name>.sql, and table."`
	Table        string              `yaml:"table" doc:"A relation as it is: source('s', 't')."`
	LoadedAt     string              `yaml:"loaded_at" doc:"The column that says when a row was loaded; for backfill --since, and for lookback."`
	Columns      map[string]ColumnIs `yaml:"columns" doc:"What Dray should know of single columns."`
	Tests        *ModelTests         `yaml:"tests" doc:"What must hold of the rows; a failure stops whatever depends on the model."`
	Tags         []string            `yaml:"tags" doc:"For selectors: tag:x."`
	MovedFrom    string              `yaml:"moved_from" doc:"The name it had before; what Dray keeps of it moves along, once."`
	Description  string              `yaml:"description" doc:"For people."`

	Path    string   `yaml:"-"` // the file SQL came from: models/x.sql, or the YAML file
	SQLLine int      `yaml:"-"` // line of Path at which SQL begins, from 1
	SQLPos  diag.Pos `yaml:"-"`
}

// ModelTests stop what depends on the model when they fail.
type ModelTests struct {
	Node
	Unique         []Strings           `yaml:"unique" doc:"Columns, or lists of columns, in which no value stands twice."`
	NotNull        []string            `yaml:"not_null" doc:"Columns that are never NULL."`
	AcceptedValues map[string][]string `yaml:"accepted_values" doc:"column: the values it may have."`
	Relationships  map[string]string   `yaml:"relationships" doc:"column: other_model.column that must have each value."`
	SQL            []string            `yaml:"sql" doc:"Queries whose rows are failures."`
}

// Entity is who is modelled.
type Entity struct {
	Node
	Name        string            `yaml:"name" dray:"required" doc:"As in profiles('name')."`
	Identifiers []*Identifier     `yaml:"identifiers" doc:"What it is known by, in order of trust."`
	Inputs      []*Input          `yaml:"inputs" doc:"The relations that tell about it."`
	Match       []*Match          `yaml:"match" doc:"Rules that join profiles which share no identifier."`
	Relations   []*Relation       `yaml:"relations" doc:"Other entities it belongs to: a name, and how a profile finds the other's."`
	Consent     map[string]string `yaml:"consent" doc:"purpose: the boolean trait that allows it."`
	Guard       *EntityGuard      `yaml:"guard" doc:"Stops a build that merges too much."`
	Decisions   *Decisions        `yaml:"decisions" doc:"Pairs that always, or never, belong together, whatever the rules say."`
	Traits      []*Trait          `yaml:"traits" doc:"The columns of its profiles."`
	Tags        []string          `yaml:"tags" doc:"For selectors: tag:x."`
	MovedFrom   string            `yaml:"moved_from" doc:"The name it had before; what Dray keeps of it moves along, once."`
}

// Identifier is a typed value by which an entity is known.
type Identifier struct {
	Node
	Name        string     `yaml:"name" dray:"required" doc:"Also the column of the profile."`
	Normalize   *Normalize `yaml:"normalize" doc:"email, name, date, text, or {phone: DK} with the country of numbers that name none."`
	Limit       int        `yaml:"limit" doc:"How many values of it a profile may hold. Default: any number."`
	SharedAbove int        `yaml:"shared_above" doc:"A value met with more profiles of a more trusted identifier than this joins none of them."`
	OnRefused   string     `yaml:"on_refused" dray:"enum=none|latest|first,default=none" doc:"Whose the rows are that have only a value which another identifier's limit, or a decision, refused: nobody's, or the profile's that the value was met with last or first. It joins nobody in any case."`
	Column      string     `yaml:"column" dray:"enum=most_recent|none,default=most_recent" doc:"Which value the profile shows; none: no column."`
	Exclude     *Exclude   `yaml:"exclude" doc:"Values that identify nobody."`
}

// Normalize names a normaliser; Country is phone's.
type Normalize struct {
	Node
	Kind    string // email, phone, name, date, text
	Country string // ISO 3166 alpha-2
}

// Exclude names values that identify nobody.
type Exclude struct {
	Node
	Values  []string `yaml:"values" doc:"These values."`
	Pattern string   `yaml:"pattern" doc:"A regular expression (RE2) for whole values."`
	From    string   `yaml:"from" doc:"A relation that lists them: ref('bad_emails')."`
	Column  string   `yaml:"column" doc:"Its column."`
}

// Input is a relation that tells about an entity.
type Input struct {
	Node
	Name        string            `yaml:"name" doc:"How traits and conditions call it. Default: the name of what it reads."`
	From        string            `yaml:"from" dray:"required" doc:"ref('model'), source('s', 't') or profiles('entity')."`
	Identifiers map[string]string `yaml:"identifiers" dray:"required" doc:"identifier: the column that holds it."`
	At          string            `yaml:"at" doc:"The column that says when it happened."`
	Lookback    Duration          `yaml:"lookback" doc:"How old rows may be that are changed in place; older ones are only counted. Default: a row of any age may change."`
	Link        *bool             `yaml:"link" dray:"default=true" doc:"false: joined to profiles, but never merges two."`
}

// Match is a rule beyond equal identifiers: equal columns (on), columns that are alike (compare), or a model of how alike they have to
// be (probability). The last two look at pairs of rows that share a blocking key.
type Match struct {
	Node
	Name        string        `yaml:"name" dray:"required" doc:"How identity_<entity> and messages call it."`
	On          []string      `yaml:"on" doc:"Columns that must all be equal, as normalised text; normalize(column) also folds accents, as in names."`
	Compare     []*Comparison `yaml:"compare" doc:"Comparisons that must all hold between two rows of one block."`
	Probability *Probability  `yaml:"probability" doc:"How likely two rows of one block are one, by a model that is fitted to the rows themselves (Fellegi and Sunter's)."`
	Block       []Strings     `yaml:"block" doc:"Keys, of which two rows must share one to be compared: each a column, or several; normalize(column), soundex(column) or SQL too."`
	MaxBlock    int           `yaml:"max_block" dray:"default=1000" doc:"Different records that may share a key; more stop the build, for pairs grow with their square."`
	After       string        `yaml:"after" doc:"The identifier after which the rule is tried."`
}

// Pairs tells whether the rule compares pairs of rows.
func (m *Match) Pairs() bool { return len(m.Compare) > 0 || m.Probability != nil }

// Comparisons are those of the rule, whichever kind it is.
func (m *Match) Comparisons() []*Comparison {
	if m.Probability != nil {
		return m.Probability.Compare
	}
	return m.Compare
}

// Comparison says when a column of two rows is alike. NULL or empty is like nothing. In a probability each bound is a level of
// agreement, below equality.
type Comparison struct {
	Node
	Column       string   `yaml:"column" dray:"required" doc:"A column, normalize(column), or SQL."`
	Equal        bool     `yaml:"equal" doc:"Equal as normalised text."`
	EditDistance Numbers  `yaml:"edit_distance" doc:"At most so many letters put in, left out or changed (Levenshtein), accents folded. probability: several."`
	JaroWinkler  Numbers  `yaml:"jaro_winkler" doc:"At least this similarity, from 0 to 1, accents folded. probability: several."`
	Soundex      bool     `yaml:"soundex" doc:"The same sound, in English."`
	Within       []Within `yaml:"within" doc:"At most so far apart: a number, or days of dates (1 day). probability: several."`
}

// Numbers is a number, or a list of them.
type Numbers []float64

// Within is a tolerance: of numbers, or of dates.
type Within struct {
	Days   int // of dates; 0 = the other
	Number float64
}

// Probability is a model of how likely two rows are one.
type Probability struct {
	Node
	Compare       []*Comparison `yaml:"compare" dray:"required" doc:"What is compared. A column without a bound has the levels equal, one letter apart, two letters apart, and else."`
	Threshold     Percent       `yaml:"threshold" dray:"default=95%" doc:"From this probability on two rows are one."`
	Review        *Percent      `yaml:"review" doc:"From this probability on, up to threshold, pairs are listed in identity_<entity>_review and not joined. Default: 70%, or threshold where that is less."`
	TermFrequency *bool         `yaml:"term_frequency" dray:"default=true" doc:"Agreement on a rare value weighs more than on a frequent one."`
}

// Relation joins another entity.
type Relation struct {
	Node
	Name   string            `yaml:"name" dray:"required" doc:"As in account.mrr."`
	Entity string            `yaml:"entity" dray:"required" doc:"The other entity."`
	On     map[string]string `yaml:"on" dray:"required" doc:"own trait or identifier: the other's identifier that has the same value. Of several, all must name one and the same profile."`
}

// EntityGuard stops an identity build that merges too much.
type EntityGuard struct {
	Node
	MaxMerges      *Percent `yaml:"max_merges" doc:"Share of profiles that one build may merge."`
	MaxProfileSize int      `yaml:"max_profile_size" doc:"Identifier values of one profile."`
}

// Decisions are manual: pairs that always or never belong together.
type Decisions struct {
	Node
	Always [][]string `yaml:"always" doc:"Pairs identifier:value that are one."`
	Never  [][]string `yaml:"never" doc:"Pairs identifier:value that are two."`
	From   string     `yaml:"from" doc:"A relation with more of them: columns verdict (always or never), a and b."`
}

// Limited tells whether values of the entity may be refused: then its profiles have the column shared.
func (e *Entity) Limited() bool {
	for _, i := range e.Identifiers {
		if i.Limit > 0 || i.SharedAbove > 0 {
			return true
		}
	}
	return e.Decisions != nil && (len(e.Decisions.Never) > 0 || e.Decisions.From != "")
}

// Historical names the columns of profiles whose values are kept with their times, in the file's order.
func (e *Entity) Historical() []string {
	var out []string
	for _, t := range e.Traits {
		switch {
		case !t.History:
		case len(t.Names) > 0:
			out = append(out, t.Names...)
		default:
			out = append(out, t.Name)
		}
	}
	return out
}

// Trait is a column of a profile. Four forms: pick, aggregate (from one input + value), sql over other traits, and the fifth of all
// profiles that another one falls into.
type Trait struct {
	Node
	Name     string   `yaml:"name" doc:"The column."`
	Names    []string `yaml:"names" doc:"Several columns, picked from one and the same row."`
	Pick     string   `yaml:"pick" dray:"enum=most_recent|oldest|most_frequent|source_order|longest|min|max|first" doc:"Which of several values survives. NULL and '' are never picked."`
	From     Strings  `yaml:"from" doc:"pick: input.column, one or several in order (with names: inputs). value: one input."`
	OrderBy  string   `yaml:"order_by" doc:"Decides for pick: first; for the others, among rows that they find equal."`
	Value    string   `yaml:"value" doc:"An aggregate over an input's rows: sum(amount)."`
	SQL      string   `yaml:"sql" doc:"A scalar expression over other traits, and over those of a relation: account.mrr."`
	Quintile string   `yaml:"quintile" doc:"The trait or identifier, a number or a time, by which the profiles are cut into fifths: 1 to 5, 5 for the highest values. Equal values are in one fifth, NULL in none."`
	Order    string   `yaml:"order" dray:"enum=asc|desc,default=asc" doc:"quintile: desc gives 1 to the highest values."`
	Where    string   `yaml:"where" doc:"Only rows of the input that fulfil this SQL."`
	Within   Duration `yaml:"within" doc:"Only rows at most this old."`
	MaxAge   Duration `yaml:"max_age" doc:"pick: a value older than this counts as none, and is not picked."`
	Default  any      `yaml:"default" doc:"Instead of NULL."`
	History  bool     `yaml:"history" doc:"true: profiles_<entity>_history keeps which value it had from when to when."`
}

// Segment is a named set of profiles: a tree of conditions, or SQL that gives profile_id; narrowed, in this order, by Exclusive, Top
// and Sample, and told apart by Split.
type Segment struct {
	Node
	Name      string     `yaml:"name" dray:"required" doc:"As in segment('name')."`
	Entity    string     `yaml:"entity" dray:"required" doc:"Whose profiles it is a set of."`
	Where     *Condition `yaml:"where" doc:"A condition. Beside top, sample, exclusive or split it may be left out: all profiles."`
	SQL       string     `yaml:"sql" doc:"Instead of where: a query whose column profile_id names the members."`
	Exclusive []string   `yaml:"exclusive" doc:"Segments in order of priority: a profile is in the first of these only. One that does not name itself comes last."`
	Top       *Top       `yaml:"top" doc:"Only those with the highest values of a trait: 10% by lifetime_value, or 100 by lifetime_value. NULL is never among them; profiles with equal values go by profile_id."`
	Sample    *Sample    `yaml:"sample" doc:"Only a share, by a hash of the profile: 5%, or {share, seed}."`
	Split     *Split     `yaml:"split" doc:"Named shares that add to 100 %, by a hash of the profile: {a: 50%, b: 50%, seed: s}. The name stands in the column split of the members, which the fields and the where of a sync may use."`
	Shared    bool       `yaml:"shared" doc:"Also profiles that are made of refused values only."`
	Tags      []string   `yaml:"tags" doc:"For selectors: tag:x."`
	MovedFrom string     `yaml:"moved_from" doc:"The name it had before; what Dray keeps of it moves along, once."`
}

// Top is the first of an order: exactly one of Share and Count is set.
type Top struct {
	Node
	Share Percent
	Count int
	By    string // trait
}

// Sample is a share of the profiles, by a hash.
type Sample struct {
	Node
	Share Percent `yaml:"share" dray:"required" doc:"Which part of the profiles: 5%. A larger share of the same seed has the same profiles, and more."`
	Seed  string  `yaml:"seed" doc:"Samples with the same seed take the same profiles. Default: the segment's name."`
}

// Split tells the members apart by name, in the file's order; the shares add to 1.
type Split struct {
	Node
	Parts []SplitPart
	Seed  string // "" = the segment's name
}

// SplitPart is one named share.
type SplitPart struct {
	Node
	Name  string
	Share Percent
}

// Condition is a node of a where tree. A plain string is SQL. Exactly one of All, Any, Not, Trait, Did, In, Sent, SQL is set.
type Condition struct {
	Node
	All []*Condition `yaml:"all" doc:"All of these hold."`
	Any []*Condition `yaml:"any" doc:"At least one of these holds."`
	Not *Condition   `yaml:"not" doc:"This is not true (NULL included)."`

	Trait string `yaml:"trait" doc:"This trait, or one of a relation (account.mrr), compared by one operator."`
	Op    string `yaml:"-"` // eq ne gt gte lt lte one_of none_of between contains starts_with is_null older_than within within_next
	Value any    `yaml:"-"` // scalar, []any, bool (is_null) or Duration

	Did         string     `yaml:"did" doc:"Rows of this input of the entity."`
	Where       string     `yaml:"where" doc:"did: only rows that fulfil this SQL."`
	AtLeast     *int       `yaml:"at_least" doc:"did: this many rows, or more. Default: 1."`
	AtMost      *int       `yaml:"at_most" doc:"did: this many rows, or fewer."`
	Exactly     *int       `yaml:"exactly" doc:"did: this many rows."`
	Within      Duration   `yaml:"within" doc:"did, sent: at most this long ago."`
	AndNotSince *Condition `yaml:"and_not_since" doc:"did: and not this, later."`
	Then        *Condition `yaml:"then" doc:"did: and later this."`

	In   string `yaml:"in" doc:"Is in this segment."`
	Sent string `yaml:"sent" doc:"Was sent something (an add or an update) by this sync of profiles, as far back as retention goes."`
	SQL  string `yaml:"sql" doc:"An expression over the columns."`
}

// Destination is a configured connection. Options holds every key but those named; the connector's spec checks them.
type Destination struct {
	Node
	Name    string         `yaml:"name" dray:"required" doc:"How syncs call it."`
	Type    string         `yaml:"type" dray:"required" doc:"The connector: dray destinations lists them. Every key not named here is the connector's own."`
	Purpose string         `yaml:"purpose" dray:"enum=advertising|email|analytics" doc:"What it is used for: only rows that consent to it go there, and withdrawn consent withdraws what was sent."`
	BaseURL string         `yaml:"base_url" doc:"Another host for the vendor's API: a sandbox, a proxy, a region."`
	Settle  *Duration      `yaml:"settle" doc:"How long a request that was not answered may still be applied. Default: the connector's."`
	Timeout Duration       `yaml:"timeout" doc:"Of one request. Default: the connector's."`
	Options map[string]any `yaml:",inline"`
}

// Sync is what is delivered where.
type Sync struct {
	Node
	Name           string         `yaml:"name" dray:"required" doc:"How runs, selectors and tables call it."`
	Model          string         `yaml:"model" doc:"What it delivers: a model, ref('model') or source('s', 't'). Exactly one of model, segment, entity."`
	Segment        string         `yaml:"segment" doc:"The profiles of a segment."`
	Entity         string         `yaml:"entity" doc:"All profiles of an entity."`
	Where          *Condition     `yaml:"where" doc:"Rows outside it are not rows of this sync."`
	Destination    string         `yaml:"destination" dray:"required" doc:"Where it delivers to."`
	Object         string         `yaml:"object" dray:"required" doc:"What the destination receives: contacts, list_members …"`
	Options        map[string]any `yaml:"options" doc:"What the connector declares for the object: list, audience …"`
	Mode           string         `yaml:"mode" dray:"required,enum=upsert|update|insert|mirror" doc:"upsert: adds and changes. update: changes only what exists there. insert: adds once. mirror: also removes what left."`
	Key            []Key          `yaml:"key" dray:"required" doc:"The identity at the destination as field: column; of a list of maps, the first that is not NULL."`
	Fields         []*Field       `yaml:"fields" doc:"What is sent, as field: column, or a map."`
	NullKey        string         `yaml:"null_key" dray:"enum=reject|skip,default=reject" doc:"Rows whose key is NULL."`
	OnDuplicateKey *OnDuplicate   `yaml:"on_duplicate_key" dray:"default=error" doc:"Rows with one key: error stops, reject rejects those rows, {keep: first, order_by: …} skips all but one."`
	OnRemove       *OnRemove      `yaml:"on_remove" doc:"mirror: what becomes of rows that left."`
	Via            string         `yaml:"via" doc:"The sync that knows the record ids of the members."`
	Expand         string         `yaml:"expand" doc:"segment, entity: one row per value of this identifier; the column of its name holds the value."`
	Event          *Event         `yaml:"event" doc:"insert: what makes a row one event."`
	Remember       string         `yaml:"remember" dray:"default=forever" doc:"insert: how long a sent key is remembered: forever, or a duration."`
	Send           string         `yaml:"send" dray:"enum=changed|all,default=changed" doc:"changed: only what differs. all: always every field."`
	Nulls          string         `yaml:"nulls" dray:"enum=send|omit,default=send" doc:"omit: a NULL leaves the destination's value alone."`
	Refresh        Duration       `yaml:"refresh" doc:"Send again what was acknowledged longer ago. Default: two thirds of the destination's declared membership life, else never."`
	Guard          Guard          `yaml:"guard" doc:"What stops a run before anything is sent."`
	Requires       *Requires      `yaml:"requires" doc:"What must be fresh, or pass its tests, before anything is sent."`
	Holdout        *Holdout       `yaml:"holdout" doc:"A control group that is not sent: a share (10%), {share, seed, by}, or {column: in_control}."`
	Consent        string         `yaml:"consent" doc:"model: the boolean column that allows sending the row."`
	Schedule       string         `yaml:"schedule" doc:"Five cron fields, or @hourly, @daily, @every 2h."`
	Timezone       string         `yaml:"timezone" doc:"Of schedule. Default: UTC."`
	After          []After        `yaml:"after" doc:"dray serve: the syncs that come first, as a name, or {sync: name, when: succeeded|clean|finished}. Without schedule the sync starts when all of them have ended so since its own last run; with one it waits for those under way, and is left out after one that did not end so."`
	Retry          RetryPolicy    `yaml:"retry" doc:"How refused rows are tried again."`
	Checkpoint     Duration       `yaml:"checkpoint" dray:"default=5m" doc:"How often a long run commits."`
	Deadline       Duration       `yaml:"deadline" doc:"How long after its start a run still sends; the rest waits for the next one. Default: no limit."`
	OnExpired      string         `yaml:"on_expired" dray:"enum=send|drop,default=send" doc:"insert: a row still owed that left the model."`
	OnUncertain    string         `yaml:"on_uncertain" dray:"enum=resend|skip,default=resend" doc:"insert: a row that was sent and not answered; skip: at most once."`
	Enabled        *bool          `yaml:"enabled" dray:"default=true" doc:"false: it does not run."`
	Tags           []string       `yaml:"tags" doc:"For selectors: tag:x."`
	Team           string         `yaml:"team" doc:"Whose it is."`
	Owner          []string       `yaml:"owner" doc:"Of fields that several syncs map: this one yields to these."`
	Hooks          *Hooks         `yaml:"hooks" doc:"Commands and requests before and after a run."`
	MovedFrom      string         `yaml:"moved_from" doc:"The name it had before; what Dray keeps of it moves along, once."`
	Description    string         `yaml:"description" doc:"For people."`
}

// Key is one identity: its columns in the file's order. Several Keys: the first whose columns are not NULL.
type Key struct {
	Node
	Columns []KeyColumn
}

// KeyColumn maps a column of the model to a key of the destination.
type KeyColumn struct {
	Node
	Name   string // at the destination
	Column string // SQL column of the model
}

// Field is one mapped field, in the file's order. Exactly one of Column, Value (HasValue), SQL, Lookup, Segments is set.
type Field struct {
	Node
	Name      string   // at the destination; a dot nests, \. does not
	Column    string   `yaml:"column" doc:"A column of the model or profile."`
	Value     any      `yaml:"value" doc:"The same for every row."`
	HasValue  bool     `yaml:"-"`
	SQL       string   `yaml:"sql" doc:"An expression over the columns."`
	Lookup    *Lookup  `yaml:"lookup" doc:"The id of another record there, found before the row is sent. A row whose record is not there is skipped (no_record) and tried again by the next run."`
	Segments  []string `yaml:"segments" doc:"The sorted list of those of these segments that the profile is in."`
	Nulls     string   `yaml:"nulls" dray:"enum=send|omit" doc:"Instead of the sync's."`
	Write     string   `yaml:"write" dray:"enum=always|if_empty|on_add,default=always" doc:"if_empty: only where the destination has nothing. on_add: only when the record is new."`
	Tolerance float64  `yaml:"tolerance" doc:"A number differs only beyond this."`
	Trigger   *bool    `yaml:"trigger" dray:"default=true" doc:"false: sent along, but causes no update by itself."`
	Ordered   bool     `yaml:"ordered" doc:"true: the order of a list matters."`
}

// Lookup is the record whose id a field holds.
type Lookup struct {
	Node
	Object string `yaml:"object" dray:"required" doc:"What kind of record it is, as the destination names it: companies."`
	By     string `yaml:"by" dray:"required" doc:"Its field that holds the value, unique there."`
	Value  string `yaml:"value" dray:"required" doc:"The column with the value. NULL sends NULL."`
}

// OnDuplicate says what becomes of rows that share a destination key.
type OnDuplicate struct {
	Node
	Act     string // error (default), reject, keep_first
	OrderBy string // of keep_first
}

// OnRemove says what becomes of rows that left.
type OnRemove struct {
	Node
	Act     string         // delete, clear, ignore, set, action
	Set     map[string]any // of set
	Action  string         // of action
	Matched bool           // of delete: also records that Dray did not create
}

// After is a sync that comes first.
type After struct {
	Node
	Sync string `yaml:"sync" dray:"required" doc:"Its name."`
	When string `yaml:"when" dray:"enum=succeeded|clean|finished,default=succeeded" doc:"succeeded: also with rejected rows. clean: without any. finished: however it ended."`
}

// Alert says who hears of which states of which syncs.
type Alert struct {
	Node
	On    AlertOn `yaml:"on" dray:"required" doc:"What to tell: failed, partial, held, stale, recovered; or with a limit, as {rejected: 1%, stale: 6h}."`
	To    string  `yaml:"to" dray:"required" doc:"A destination of type slack, webhook or smtp."`
	Syncs Strings `yaml:"syncs" doc:"Names or selectors such as tag:crm. Default: all."`
}

// AlertOn are the states that are told. A state with a limit is nil where it is not told.
type AlertOn struct {
	Node
	Failed    bool
	Held      bool
	Recovered bool
	Partial   *Percent  // of the planned rows, that were rejected, uncertain or deferred; 0 = any
	Rejected  *Percent  // of the planned rows; 0 = any
	Stale     *Duration // since the last success; 0 = what suits the schedule
}

// Hooks are run around each run of a sync; not around a dry run.
type Hooks struct {
	Node
	Before []*Hook `yaml:"before" doc:"In order, under the sync's lock, before anything is planned. One that fails stops the run; nothing is sent."`
	After  []*Hook `yaml:"after" doc:"In order, when the run has ended, however it ended. Each is told the run's report. One that fails is reported and changes nothing."`
}

// Hook is a command or a request: exactly one of Run and URL.
type Hook struct {
	Node
	Run     string   `yaml:"run" doc:"A command for the shell, in the project's folder."`
	URL     string   `yaml:"url" doc:"An address that is sent the same by POST, as JSON."`
	Timeout Duration `yaml:"timeout" dray:"default=1m" doc:"How long it may take."`
}

// Event names an insert's event id and time.
type Event struct {
	Node
	ID     Strings  `yaml:"id" doc:"The column, or columns, that tell events apart. Default: the model's primary key."`
	At     string   `yaml:"at" doc:"The column that says when it happened."`
	MaxAge Duration `yaml:"max_age" doc:"Older rows are skipped: too_old."`
}

// Guard is I4's limits. Fields hold the effective values after defaults.
type Guard struct {
	Node
	MaxRemoves   Percent  `yaml:"max_removes" dray:"default=5%" doc:"Share of the snapshot that may be removed in a window; beyond it removes are held."`
	MaxChanges   Percent  `yaml:"max_changes" dray:"default=50%" doc:"Share of known rows that may change; beyond it nothing is sent."`
	Window       Duration `yaml:"window" dray:"default=24h" doc:"Removes in it add up."`
	Floor        int      `yaml:"floor" dray:"default=10" doc:"This many removes never trip the guard."`
	MinModelRows int      `yaml:"min_model_rows" dray:"default=0" doc:"A model with fewer rows stops the sync."`
	OnTrip       string   `yaml:"on_trip" dray:"enum=hold|stop,default=hold" doc:"hold: removes wait, the rest goes. stop: nothing goes."`
	AllowEmpty   bool     `yaml:"allow_empty" dray:"default=false" doc:"true: a model without rows is meant."`
}

// Holdout is a control group: Share of the rows by a hash, or those whose Column is true.
type Holdout struct {
	Node
	Share  Percent `yaml:"share" doc:"Which part of the rows is held out, by a hash: 10%."`
	Seed   string  `yaml:"seed" doc:"Syncs with the same seed hold out the same. Default: the sync's name."`
	By     string  `yaml:"by" doc:"The column that is hashed. Default: profile_id, or the model's primary key."`
	Column string  `yaml:"column" doc:"Instead of a share: the boolean column that says who is held out."`
}

// Requires is what must hold before anything is sent.
type Requires struct {
	Node
	Fresh map[string]Duration `yaml:"fresh" doc:"source.table, or a model with loaded_at: how old its newest row may be, instead of what the source says."`
	Tests []string            `yaml:"tests" doc:"Models that must be built and pass their tests, also those that the sync does not read."`
}

// RetryPolicy says how long to insist: Attempts are tries of one request in a run; GiveUpAfter is the age at which a rejected row is parked.
type RetryPolicy struct {
	Node
	Attempts    int      `yaml:"attempts" dray:"default=5" doc:"Tries of one request in a run."`
	GiveUpAfter Duration `yaml:"give_up_after" dray:"default=14d" doc:"How long a rejected row is tried in later runs until it is parked."`
}

// Duration is 30s, 5m, 2h, 20d or "90 days"; a day is 24 h.
type Duration struct{ time.Duration }

// Percent is 5% (0.05).
type Percent float64

// Strings is a string or a list of them.
type Strings []string
