package lab

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const rabbitConf = `listeners.tcp.1 = 0.0.0.0:%d
loopback_users = none
default_user = %s
default_pass = %s
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
log.console = false
log.file.level = info
heartbeat = 10
`

func (l *Lab) rabbitDir() string { return filepath.Join(l.dir, "rabbit") }

func (l *Lab) rabbitEnv() []string {
	d := l.rabbitDir()
	return cleanEnv(d,
		"RABBITMQ_NODENAME=vmthunder@localhost",
		"RABBITMQ_NODE_PORT="+strconv.Itoa(PortRabbit), "RABBITMQ_DIST_PORT="+strconv.Itoa(PortRabbit+1),
		"ERL_EPMD_PORT="+strconv.Itoa(PortEPMD), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE="+d+"/mnesia", "RABBITMQ_LOG_BASE="+d+"/log",
		"RABBITMQ_CONFIG_FILE="+d+"/rabbitmq.conf", "RABBITMQ_CONF_ENV_FILE="+d+"/env.conf",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+d+"/enabled_plugins", "RABBITMQ_PID_FILE="+d+"/pid",
		"RABBITMQ_GENERATED_CONFIG_DIR="+d+"/gen", "RABBITMQ_FEATURE_FLAGS_FILE="+d+"/feature_flags",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none")
}

func (l *Lab) startRabbit(ctx context.Context) error {
	bins, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server") // the pattern is well-formed
	if len(bins) == 0 {
		return fmt.Errorf("%w: no rabbitmq-server; run devstack/packages.sh rabbit", os.ErrNotExist)
	}
	d := l.rabbitDir()
	for _, s := range []string{"mnesia", "log", "gen"} {
		if err := os.MkdirAll(filepath.Join(d, s), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"env.conf": "", "enabled_plugins": "[].\n", "rabbitmq.conf": fmt.Sprintf(rabbitConf, PortRabbit, RabbitUser, Password),
	} {
		if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	env := l.rabbitEnv()
	// A port mapper of our own: the one Erlang would start by itself detaches from its
	// session.
	if _, ok := l.procOf("epmd"); !ok {
		p, err := l.startProc(spec{
			name: "epmd", argv: []string{"epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(PortEPMD)},
			env: env, dir: d, log: l.LogPath("epmd"),
		})
		if err != nil {
			return err
		}
		err = ready(ctx, p, func(ctx context.Context) error {
			c, err := l.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", PortEPMD))
			if err != nil {
				return err
			}
			return c.Close()
		})
		if err != nil {
			return fmt.Errorf("epmd: %w", err)
		}
	}
	p, err := l.startProc(spec{name: string(Rabbit), argv: []string{bins[len(bins)-1]}, env: env, dir: d, log: l.LogPath(string(Rabbit))})
	if err != nil {
		return err
	}
	return ready(ctx, p, l.probeRabbit)
}

// probeRabbit begins an AMQP 0-9-1 handshake: the broker accepts connections a moment
// before it answers.
func (l *Lab) probeRabbit(ctx context.Context) error {
	c, err := l.DialContext(ctx, "tcp", hostPort(PortRabbit))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return err
	}
	var frame [1]byte
	if _, err := c.Read(frame[:]); err != nil {
		return err
	}
	if frame[0] != 1 { // a method frame: connection.start
		return errors.New("broker refuses AMQP 0-9-1")
	}
	return nil
}

// AMQPURL is the broker's URL, for a program inside the namespace and for nodes.
func (l *Lab) AMQPURL() string {
	u := url.URL{Scheme: "amqp", User: url.UserPassword(RabbitUser, Password), Host: hostPort(PortRabbit), Path: "/"}
	return u.String()
}

// TransportURL is the same in oslo.messaging's spelling.
func (l *Lab) TransportURL() string {
	u := url.URL{Scheme: "rabbit", User: url.UserPassword(RabbitUser, Password), Host: hostPort(PortRabbit), Path: "/"}
	return u.String()
}
