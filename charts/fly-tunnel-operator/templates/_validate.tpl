{{- /*
Lists everything that is missing, malformed or contradictory, all at once and in plain words, as the schema could not.
Each of the templates below yields its problems, one on each line.
*/ -}}
{{- define "fly-tunnel-operator.validate" -}}
{{- $problems := list -}}
{{- range $part := list "missing" "malformed" "owned" "installed" -}}
{{- $problems = concat $problems (include (printf "fly-tunnel-operator.%s" $part) $ | splitList "\n") -}}
{{- end -}}
{{- with without $problems "" -}}
{{- fail (printf "\n\n%s\n" (join "\n" .)) -}}
{{- end -}}
{{- end }}

{{- define "fly-tunnel-operator.missing" -}}
{{- if and .Values.flyApiToken .Values.existingSecret }}
flyApiToken and existingSecret are both set: give one of them
{{- else if not (or .Values.flyApiToken .Values.existingSecret) }}
flyApiToken is missing: give the Fly token (--set-literal flyApiToken="$(fly tokens create org)"), or the name of a Secret that holds it under the key fly-api-token (--set existingSecret=NAME)
{{- end }}
{{- if not .Values.flyOrg }}
flyOrg is missing: give the Fly organisation that owns and pays for the tunnels (--set flyOrg=personal); `fly orgs list` shows yours
{{- end }}
{{- if not .Values.flyRegion }}
flyRegion is missing: give the Fly region that is next to you (--set flyRegion=ord); `fly platform regions` shows all
{{- end }}
{{- end }}

{{- /* Values that must have a form. Each entry has the value, its name, the form, and advice. An empty value is not checked. */ -}}
{{- define "fly-tunnel-operator.malformed" -}}
{{- $image := "no spaces in it, such as registry.example.com/frps:1" -}}
{{- $name := "up to 63 lower-case letters, digits and dashes, with no dash at its ends" -}}
{{- $label := "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" -}}
{{- $object := "the name of an object, up to 253 lower-case letters, digits, dashes and dots" -}}
{{- $subdomain := "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$" -}}
{{- $forms := list
  (list .Values.flyOrg "flyOrg" "^[a-z0-9][a-z0-9-]{0,62}$" "the organisation's slug, up to 63 lower-case letters, digits and dashes; `fly orgs list` shows it")
  (list .Values.flyRegion "flyRegion" "^[a-z]{2,16}( *, *[a-z]{2,16})*$" "a region's code such as ord, or several in order of preference, ord,iad (with --set: ord\\,iad); `fly platform regions` shows all")
  (list .Values.flyMachineSize "flyMachineSize" "^(shared-cpu-[12468]x|performance-([12468]|1[0246])x)$" "a preset of Fly's, such as shared-cpu-1x or performance-2x; `fly platform vm-sizes` shows all")
  (list .Values.flyApiToken "flyApiToken" "\\S" "the token that `fly tokens create org` prints")
  (list .Values.existingSecret "existingSecret" $subdomain $object)
  (list .Values.loadBalancerClass "loadBalancerClass" "^([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?$" "a label-style name such as example.com/lb")
  (list .Values.clusterName "clusterName" "^\\S(.*\\S)?$" "a name that no other cluster of the organisation has, with no blanks at its ends")
  (list .Values.frpsImage "frpsImage" "^\\S+$" $image)
  (list .Values.frpcImage "frpcImage" "^\\S+$" $image)
  (list .Values.image.repository "image.repository" "^([^\\s@]+/)?[^\\s@:/]+$" "registry and name alone, such as ghcr.io/zhming0/fly-tunnel-operator; tag and digest go into image.tag")
  (list .Values.image.tag "image.tag" "^[\\w.-]+(@[\\w+.:-]+)?$" "a tag such as 0.1.0, or a tag and a digest, 0.1.0@sha256:…")
  (list .Values.serviceAccount.name "serviceAccount.name" $subdomain $object)
  (list .Values.priorityClassName "priorityClassName" $subdomain $object)
  (list (dig "priorityClassName" "" .Values.frpc) "frpc.priorityClassName" $subdomain $object)
  (list (dig "namespace" "" (.Values.grafanaDashboard | default dict)) "grafanaDashboard.namespace" $label $name)
  (list .Values.nameOverride "nameOverride" $label $name)
  (list .Values.fullnameOverride "fullnameOverride" $label $name)
  (list .Values.podMonitor.interval "podMonitor.interval" "^([0-9]+(ms|[smhdwy]))+$" "a duration of Prometheus' such as 30s or 1m30s")
-}}
{{- $resources := .Values.resources | default dict -}}
{{- range $kind := list "requests" "limits" -}}
{{- range $resource, $quantity := get $resources $kind | default dict -}}
{{- $form := "^[+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$" -}}
{{- /* A quantity may be a number, too; the schema checks those. */ -}}
{{- $text := kindIs "string" $quantity | ternary $quantity "" -}}
{{- $forms = append $forms (list $text (printf "resources.%s.%s" $kind $resource) $form "a quantity such as 100m (of a core) or 64Mi (of bytes)") -}}
{{- end -}}
{{- end -}}
{{- range $argument := .Values.extraArgs -}}
{{- $forms = append $forms (list $argument "an item of extraArgs" "^(--[a-z][a-z-]*(=.*)?|[^-].*)$" "one flag such as --poll-interval=2s") -}}
{{- end -}}
{{- range $forms -}}
{{- $value := index . 0 -}}
{{- if and $value (not (regexMatch (index . 2) $value)) }}
{{ index . 1 }} is {{ $value | quote }}: give {{ index . 3 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Arguments and variables that the chart sets itself, or that would change the operator in a way that the chart does not expect. */ -}}
{{- define "fly-tunnel-operator.owned" -}}
{{- $both := dict
  "fly-api-token-file" "use the value flyApiToken or existingSecret"
  "fly-org" "use the value flyOrg"
  "fly-region" "use the value flyRegion"
  "fly-machine-size" "use the value flyMachineSize"
  "load-balancer-class" "use the value loadBalancerClass"
  "cluster-name" "use the value clusterName"
  "frps-image" "use the value frpsImage"
  "frpc-image" "use the value frpcImage"
  "frpc-pod-file" "use the values frpc.*"
  "control-port-base" "use the value controlPortBase"
  "http-bind-address" "leave it out, as the probes ask port 8080"
  "leader-elect" "leave it out, as an upgrade runs the old pod and the new one side by side"
  "kubeconfig" "leave it out, as the pod has a ServiceAccount"
  "service-account-dir" "leave it out, as the pod has its ServiceAccount where all have theirs"
-}}
{{- $argumentsOnly := dict
  "namespace" "leave it out, as it is the release's"
  "context" "leave it out, as the pod has a ServiceAccount"
  "drain" "use the value uninstall.drain"
-}}
{{- range $mode := list "once" "dry-run" "help" "version" -}}
{{- $_ := set $argumentsOnly $mode "run the binary on your own machine" -}}
{{- end -}}
{{- $variablesOnly := dict
  "operator-namespace" "leave it out, as it is the release's"
  "fly-api-token" "use the value flyApiToken or existingSecret"
-}}
{{- range $argument := .Values.extraArgs -}}
{{- with get (merge (dict) $both $argumentsOnly) ($argument | trimPrefix "--" | splitList "=" | first) }}
extraArgs has {{ $argument | quote }}: {{ . }}
{{- end }}
{{- end }}
{{- range $variable := .Values.extraEnv -}}
{{- with get (merge (dict) $both $variablesOnly) ($variable.name | lower | replace "_" "-") }}
extraEnv has {{ $variable.name }}: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Conflicts with what is installed already. Only commands that ask the cluster find them; `helm template` does not. */ -}}
{{- define "fly-tunnel-operator.installed" -}}
{{- $release := printf "%s in the namespace %s" .Release.Name .Release.Namespace -}}
{{- $class := include "fly-tunnel-operator.loadBalancerClass" . -}}
{{- with lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" (include "fly-tunnel-operator.clusterWideName" .) -}}
{{- $by := .metadata.annotations | default dict -}}
{{- $owner := printf "%s in the namespace %s" (get $by "meta.helm.sh/release-name") (get $by "meta.helm.sh/release-namespace") -}}
{{- if and (hasKey $by "meta.helm.sh/release-name") (ne $owner $release) }}
loadBalancerClass is {{ $class }}, and the release {{ $owner }} serves it: two would fight over the same Services. Give another one (--set loadBalancerClass=example.com/lb)
{{- end }}
{{- end }}
{{- range $deployment := (lookup "apps/v1" "Deployment" .Release.Namespace "").items -}}
{{- $by := $deployment.metadata.annotations | default dict -}}
{{- $pod := $deployment.spec.template -}}
{{- $component := get ($pod.metadata.labels | default dict) "app.kubernetes.io/component" -}}
{{- if and (eq (get $by "meta.helm.sh/release-name") $.Release.Name) (eq $component "operator") -}}
{{- $cluster := dig "metadata" "uid" "" (lookup "v1" "Namespace" "" "kube-system") -}}
{{- $settings := list
  (list "clusterName" "--cluster-name=" $.Values.clusterName $cluster)
  (list "loadBalancerClass" "--load-balancer-class=" $.Values.loadBalancerClass (include "fly-tunnel-operator.defaultClass" $))
-}}
{{- range $settings -}}
{{- $flag := index . 1 -}}
{{- $was := index . 3 -}}
{{- $is := index . 2 | default $was -}}
{{- range $argument := (first $pod.spec.containers).args -}}
{{- if hasPrefix $flag $argument -}}{{- $was = trimPrefix $flag $argument -}}{{- end -}}
{{- end -}}
{{- if ne $is $was }}
{{ index . 0 }} is {{ $is }}, and the installed operator runs with {{ $was }}: the tunnels that it made would be abandoned, and Fly would go on billing for them. Give the old one back, or take them down first (uninstall.drain) and install anew. If somebody edited the Deployment by hand, undo that by hand first
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
