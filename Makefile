# Every recipe is one tool call; the work is in Go.
ARGS    ?=
VERSION ?= 0.1.0
# The machines' architecture, x86_64 or arm64; ARGS may name it too.
ARCH    ?= $(if $(filter arm64 aarch64 --arch=arm64 --arch=aarch64,$(ARGS)),arm64,x86_64)
GOARCH_x86_64 = amd64
GOARCH_arm64  = arm64

BIN = build/bin

SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1793491200)
# The commit is told by the commands that people run. It does not go onto media: who
# has the sources without their history makes the same ones.
COMMIT ?= $(shell git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null)

export CGO_ENABLED = 0
V = github.com/phasebased/phase/internal/version
GOBUILD = go build -trimpath -buildvcs=false \
	-ldflags "-s -w -buildid= -X $(V).Version=$(VERSION) -X $(V).Epoch=$(SOURCE_DATE_EPOCH) $(STAMP)"
tools deb-x86_64 deb-arm64: STAMP = -X $(V).Commit=$(COMMIT)

FUZZTIME ?= 10s

.DEFAULT_GOAL := image
.PHONY: help demo test fuzz bench lint reference pictures image esp initramfs rootfs release deb deps tools verifier target test-qemu-x86 test-qemu-arm64 clean

help: ## list these targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: tools target-$(ARCH) ## boot a machine from a USB image, over the network, to a verified receipt (ARGS="…" passes flags on)
	@$(BIN)/phase demo --install --arch $(ARCH) $(ARGS)

test: tools target-x86_64 target-arm64 ## install what the tests need and run all of them
	$(BIN)/phase doctor --install --task test
	go vet ./...
	go test $(ARGS) $$(go list ./... | grep -v /test/)
	go test -timeout 80m $(ARGS) ./test/...

fuzz: ## run every fuzz target for a time each (FUZZTIME=10s); make test runs their seeds
	go run ./test/fuzz -time $(FUZZTIME)

bench: tools target ## measure, as ratios against a reference in the same run; writes build/bench.json
	$(BIN)/phase doctor --install --task test
	go run ./test/bench $(ARGS)

lint: ## gofmt, vet for both architectures, staticcheck, govulncheck where its database can be reached
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go vet ./...
	GOOS=linux GOARCH=arm64 go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	@if out=$$(go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... 2>&1); then echo "$$out" | tail -1; \
	elif echo "$$out" | grep -q "fetching vulnerabilities"; then echo "govulncheck: its database cannot be reached from here; skipped"; \
	else echo "$$out"; exit 1; fi

reference: ## write docs/reference anew, from the programs
	go test -run TestReference ./cmd/phase ./cmd/plasmd ./cmd/internal/steps ./internal/bootcfg -update

pictures: tools target-x86_64 ## make the terminal pictures and screenshots of the pages anew, from the programs (ARGS="demo" makes one)
	$(BIN)/phase doctor --install --task test
	go run ./test/pictures $(ARGS)

# One image boots machines of both architectures, unless ARCH or ARGS name one.
ONE_ARCH = $(if $(filter all --arch=all,$(ARCH) $(ARGS)),,$(filter-out file,$(origin ARCH))$(findstring --arch,$(ARGS)))

image: tools $(if $(ONE_ARCH),target-$(ARCH),target-x86_64 target-arm64) ## build the USB image, for machines of both architectures or for ARCH (ARGS="…" passes flags on)
	$(BIN)/phase image build --install --arch $(if $(ONE_ARCH),$(ARCH),all) $(ARGS)

esp: image ## part of the image, built with it
initramfs: image ## part of the image, built with it
rootfs: image ## part of the image, built with it

release: tools target ## build and sign a release of the node system
	$(BIN)/phase release build --install --arch $(ARCH) $(ARGS)

deb: deb-x86_64 deb-arm64 ## pack the node with its service, and these commands, as Debian packages for amd64 and arm64 in build/deb

deb-%: tools verifier
	@GOOS=linux GOARCH=$(or $(GOARCH_$*),$(error unknown ARCH $*, choose x86_64 or arm64)) $(GOBUILD) -o build/deb/programs/$*/ ./cmd/plasmd ./cmd/plasm-jail ./cmd/phase ./cmd/phase-discover ./cmd/phase-verify ./cmd/phase-fetch
	@$(BIN)/phase deb --arch $* --programs build/deb/programs/$*

test-qemu-x86: tools target-x86_64 ## only the tests that boot x86_64 virtual machines
	go test -v -timeout 80m -skip ARM64 $(ARGS) ./test/vm

test-qemu-arm64: tools target-arm64 ## only the tests that boot arm64 virtual machines
	go test -v -timeout 80m -run ARM64 $(ARGS) ./test/vm

deps: tools ## install what building, running and testing need
	$(BIN)/phase doctor --install

# The verifier that plasmd serves to browsers, the same bytes everywhere.
verifier: # what the status page verifies receipts with
	@GOOS=wasip1 GOARCH=wasm go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o build/verify.wasm ./internal/statuspage/verifier
	@GOOS= GOARCH= go run ./internal/statuspage/pack build/verify.wasm internal/statuspage/assets/verify.wasm.gz

tools: verifier # the operator's commands, for this machine
	@$(GOBUILD) -o $(BIN)/ ./cmd/...

target: target-$(ARCH) # what goes onto media and nodes

target-%: verifier
	@GOOS=linux GOARCH=$(or $(GOARCH_$*),$(error unknown ARCH $*, choose x86_64 or arm64)) $(GOBUILD) -o build/target/$*/ ./cmd/phase-init ./cmd/phase-pid1 ./cmd/node-init ./cmd/plasmd ./cmd/plasm-jail

clean: ## remove everything that was built
	rm -rf build
