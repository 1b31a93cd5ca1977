package serve

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path"
	"strings"
	"time"

	"github.com/bmctl/bmctl/boot"
	"github.com/bmctl/bmctl/serve/assetcache"
	"github.com/bmctl/bmctl/serve/minrate"
)

// newBoot makes the network boot service.
func (s *Server) newBoot() (*boot.Server, error) {
	var listen netip.Addr

	if s.cfg.APIListenAddress != "" {
		var err error
		if listen, err = netip.ParseAddr(s.cfg.APIListenAddress); err != nil {
			return nil, err
		}
	}

	root, err := s.cfg.ipxeRoot()
	if err != nil {
		return nil, fmt.Errorf("iPXE's CA file: %w", err)
	}

	return boot.New(boot.Config{
		Decider:          s.ctrl,
		Observe:          s.sawBoot,
		Log:              s.log.With("component", "boot"),
		Advertise:        s.advertise,
		HTTPPort:         s.cfg.APIPort,
		ListenAddr:       listen,
		Interface:        s.cfg.DHCPProxyIfaceOrIP,
		DHCPPort:         s.cfg.DHCPPort,
		PXEPort:          s.cfg.PXEPort,
		TFTPPort:         s.cfg.TFTPPort,
		DisableDHCPProxy: s.cfg.DisableDHCPProxy,
		DisableBroadcast: s.cfg.DisableDHCPProxyBroadcast,
		Style:            boot.Style(s.cfg.PXEStyle),
		TFTPSinglePort:   s.cfg.TFTPSinglePort,
		DHCPReplyDelay:   s.cfg.DHCPReplyDelay,
		IPXEDir:          s.cfg.IPXEDir,
		IPXERoot:         root,
		DiskMethod:       s.cfg.BootFromDiskMethod,
	})
}

func (s *Server) sawBoot(e boot.Event) {
	var number int

	e.UUID, number = s.ctrl.SawBoot(e)
	s.metrics.sawBoot(e)

	shown := bootEvent(e)
	shown.Attempt = number
	s.events.add(shown)
}

// newHTTP is the one server for machines: boot scripts, loaders, assets, the
// machine config, and gRPC for agents. Large files and tunnels take as long as they
// take; who does not take what it asked for is given up.
func (s *Server) newHTTP(config http.Handler) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/", s.boot.Handler())
	mux.Handle("GET /config", config)

	if s.cfg.UseLocalBootAssets {
		mux.Handle("GET /assets/", s.assets())
	}

	if s.cache != nil {
		mux.Handle("GET "+assetcache.Prefix, s.cache)
	}

	machines := minrate.Handler(mux)

	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)

	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				s.grpc.ServeHTTP(w, r)
			} else {
				machines.ServeHTTP(w, r)
			}
		}),
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}

// assets serves the local boot assets, files alone, and notes who loads them.
func (s *Server) assets() http.Handler {
	dir := http.Dir(s.cfg.BootAssetsPath) // which gives files to sendfile, as an fs.FS does not
	files := assetcache.Watch(http.FileServer(dir), func(t assetcache.Transfer) { s.assetServed(t, "from the local boot assets") })

	return http.StripPrefix("/assets", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := fs.Stat(os.DirFS(s.cfg.BootAssetsPath), strings.TrimPrefix(path.Clean(r.URL.Path), "/"))
		if err != nil || !info.Mode().IsRegular() {
			asker := bootAsker(r)
			asker.Type, asker.Time, asker.File = boot.EventIgnored, time.Now(), path.Base(r.URL.Path)
			asker.Reason = fmt.Sprintf("there is no local boot asset %q", asker.File)
			s.sawBoot(asker)
			http.NotFound(w, r)

			return
		}

		s.log.Info("file requested", "component", "assets", "filename", path.Base(r.URL.Path), "source", r.RemoteAddr)
		files.ServeHTTP(w, r)
	}))
}

// assetArch reads the architecture in a boot asset's name; "" where there is none.
func assetArch(name string) string {
	for _, arch := range []string{"amd64", "arm64"} {
		if strings.Contains(name, arch) {
			return arch
		}
	}

	return ""
}

func assetStage(name string) string {
	switch {
	case strings.HasPrefix(name, "kernel-"), strings.HasSuffix(name, "-uki.efi"):
		return string(boot.EventKernel)
	case strings.HasPrefix(name, "initramfs-"):
		return string(boot.EventInitrd)
	default:
		return string(boot.EventAsset)
	}
}
