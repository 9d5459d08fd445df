package snowflake

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"regexp"
	"strconv"
	"strings"
	"time"

	sf "github.com/snowflakedb/gosnowflake"
	"github.com/youmark/pkcs8"

	"github.com/dray-dev/dray/connectors/warehouse"
)

// options are the keys of `warehouse:`, named as dbt-snowflake names them.
type options struct {
	account, user    string
	password, token  string
	key              *rsa.PrivateKey
	authenticator    sf.AuthType
	role, warehouse  string
	database, schema string
	queryTag         string
	keepAlive        bool
	timeout          time.Duration // of a statement, by Snowflake itself; 0 = the account's own limit
	connections      int
	protocol, host   string
	port             int
}

// keys are sorted as the docs have them.
func keys() []string {
	return []string{
		"account", "user", "password", "private_key", "private_key_path", "private_key_passphrase", "authenticator", "token", "role", "warehouse", "database",
		"schema", "query_tag", "client_session_keep_alive", "statement_timeout", "connections", "host", "port", "protocol",
	}
}

// accountName is an organisation's account (org-account), or a locator with its region (xy12345.eu-central-1.aws).
var accountName = regexp.MustCompile(`^[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*$`)

// parse reads the options; dir is where relative paths begin. No error quotes a secret.
func parse(given map[string]any, dir string) (*options, error) {
	text, err := warehouse.OptionTexts("Snowflake", given, keys())
	if err != nil {
		return nil, err
	}
	o := &options{
		account: text("account"), user: text("user"), role: text("role"), warehouse: text("warehouse"), database: text("database"), schema: text("schema"),
		queryTag: text("query_tag"), connections: 8, protocol: "https", port: 443,
	}
	if o.account == "" {
		return nil, warehouse.InvalidOption("account", "the Snowflake warehouse needs an account").WithHint("account: myorg-myaccount")
	}
	if !accountName.MatchString(o.account) {
		return nil, warehouse.InvalidOption("account", "account of the Snowflake warehouse is not an account's identifier").WithHint("the organisation and the account, myorg-myaccount, without https:// and .snowflakecomputing.com")
	}
	if o.database == "" {
		return nil, warehouse.InvalidOption("database", "the Snowflake warehouse needs a database: Dray's own schema is made in it").WithHint("database: ANALYTICS")
	}
	for _, part := range []func(func(string) string, string) error{o.parseCredentials, o.parseLimits, o.parseAddress} {
		if err := part(text, dir); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// parseCredentials finds out how to sign in: by what is there, unless authenticator says it.
func (o *options) parseCredentials(text func(string) string, dir string) error {
	o.password, o.token = text("password"), text("token")
	if err := o.parseKey(text, dir); err != nil {
		return err
	}
	needs := func(key, format string) error {
		return warehouse.InvalidOption(key, "the Snowflake warehouse needs %s"+format, key).WithHint("%s: \"${SNOWFLAKE_%s}\"", key, strings.ToUpper(key))
	}
	how := strings.ToLower(text("authenticator"))
	if how == "" {
		switch {
		case o.key != nil:
			how = "snowflake_jwt"
		case o.token != "":
			how = "oauth"
		default:
			how = "snowflake"
		}
	}
	switch how {
	case "snowflake_jwt", "jwt":
		o.authenticator = sf.AuthTypeJwt
		if o.key == nil {
			return warehouse.InvalidOption("private_key", "the Snowflake warehouse needs private_key or private_key_path for authenticator: %s", how).WithHint(`private_key: "${SNOWFLAKE_PRIVATE_KEY}"`)
		}
		o.password, o.token = "", ""
	case "oauth":
		o.authenticator = sf.AuthTypeOAuth
		if o.token == "" {
			return needs("token", " for authenticator: oauth")
		}
		o.password, o.key = "", nil
	case "snowflake":
		o.authenticator = sf.AuthTypeSnowflake
		if o.password == "" {
			return warehouse.InvalidOption("password", "the Snowflake warehouse needs a private_key, a token or a password").WithHint(`private_key: "${SNOWFLAKE_PRIVATE_KEY}", with its public half set for the user (ALTER USER … SET RSA_PUBLIC_KEY)`)
		}
		o.token, o.key = "", nil
	default:
		return warehouse.InvalidOption("authenticator", "authenticator of the Snowflake warehouse must be snowflake, snowflake_jwt or oauth").WithHint("those that ask a person (externalbrowser, username_password_mfa) are of no use in a schedule")
	}
	if o.user == "" && o.authenticator != sf.AuthTypeOAuth {
		return needs("user", "")
	}
	return nil
}

func (o *options) parseKey(text func(string) string, dir string) error {
	file, key := text("private_key_path"), text("private_key")
	which := "private_key"
	switch {
	case file != "" && key != "":
		return warehouse.InvalidOption("private_key", "the Snowflake warehouse has both private_key and private_key_path").WithHint("leave one of them out")
	case file != "":
		which = "private_key_path"
		_, b, err := warehouse.OptionFile("Snowflake", which, file, dir)
		if err != nil {
			return err
		}
		key = string(b)
	case key == "":
		return nil
	}
	parsed, problem := privateKey(key, text("private_key_passphrase"))
	if problem != "" { // the parsers' own words might quote the key
		return warehouse.InvalidOption(which, "%s of the Snowflake warehouse %s", which, problem).WithHint("openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes256 -inform PEM -out dray.p8")
	}
	o.key = parsed
	return nil
}

// privateKey reads an RSA key: PEM, or only what stands between its first and last line, as dbt takes it.
func privateKey(text, passphrase string) (key *rsa.PrivateKey, problem string) {
	text = strings.TrimSpace(strings.ReplaceAll(text, `\n`, "\n"))
	if !strings.HasPrefix(text, "-----") {
		kind := "PRIVATE KEY"
		if passphrase != "" {
			kind = "ENCRYPTED PRIVATE KEY"
		}
		text = "-----BEGIN " + kind + "-----\n" + text + "\n-----END " + kind + "-----"
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, "is no key: it is not PEM"
	}
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" && passphrase == "":
		return nil, "is encrypted, and private_key_passphrase is not set"
	case block.Type == "ENCRYPTED PRIVATE KEY":
		k, err := pkcs8.ParsePKCS8PrivateKeyRSA(block.Bytes, []byte(passphrase))
		if err != nil {
			return nil, "does not open with private_key_passphrase"
		}
		return k, ""
	case block.Type == "RSA PRIVATE KEY":
		k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, "does not read"
		}
		return k, ""
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, "does not read"
	}
	rsaKey, ok := k.(*rsa.PrivateKey)
	if !ok {
		return nil, "is not an RSA key, which Snowflake wants"
	}
	return rsaKey, ""
}

func (o *options) parseLimits(text func(string) string, _ string) error {
	switch s := text("client_session_keep_alive"); s {
	case "", "false":
	case "true":
		o.keepAlive = true
	default:
		return warehouse.InvalidOption("client_session_keep_alive", "client_session_keep_alive of the Snowflake warehouse must be true or false")
	}
	if t := text("statement_timeout"); t != "" {
		d, err := time.ParseDuration(t)
		if err != nil || d < time.Second {
			return warehouse.InvalidOption("statement_timeout", "statement_timeout of the Snowflake warehouse is not a duration of a second or more, such as 10m")
		}
		o.timeout = d
	}
	if n := text("connections"); n != "" {
		k, err := strconv.Atoi(n)
		if err != nil || k < 2 {
			return warehouse.InvalidOption("connections", "connections of the Snowflake warehouse must be a whole number of at least 2")
		}
		o.connections = k
	}
	if len(o.queryTag) > maxTag/2 {
		return warehouse.InvalidOption("query_tag", "query_tag of the Snowflake warehouse has more than %d letters", maxTag/2)
	}
	return nil
}

func (o *options) parseAddress(text func(string) string, _ string) error {
	o.host = text("host")
	if o.host == "" { // a host's name has no underscores, and an account's may
		o.host = strings.ToLower(strings.ReplaceAll(o.account, "_", "-")) + ".snowflakecomputing.com"
		if region := strings.ToLower(o.account); strings.Contains(region, ".cn-") {
			o.host = strings.TrimSuffix(o.host, ".com") + ".cn"
		}
	}
	if strings.ContainsAny(o.host, ":/ ") {
		return warehouse.InvalidOption("host", "host of the Snowflake warehouse is not a host's name").WithHint("without https:// and port")
	}
	if p := text("port"); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > 65535 {
			return warehouse.InvalidOption("port", "port of the Snowflake warehouse must be a whole number up to 65535")
		}
		o.port = n
	}
	switch p := text("protocol"); p {
	case "", "https":
	case "http":
		if !warehouse.Loopback(o.host) {
			return warehouse.InvalidOption("protocol", "protocol of the Snowflake warehouse is not encrypted").WithHint("http is for a stand-in on this machine alone")
		}
		o.protocol = "http"
	default:
		return warehouse.InvalidOption("protocol", "protocol of the Snowflake warehouse must be https")
	}
	return nil
}
