{{- /* Names and labels, as charts have them. */ -}}

{{- define "fly-tunnel-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- /* It has at most 49 characters, so that it is still a valid label value with the longest suffix, that of the token's Secret. */ -}}
{{- define "fly-tunnel-operator.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- regexReplaceAll "[-.]+$" (.Values.fullnameOverride | default $both | trunc 49) "" -}}
{{- end }}

{{- /* The name of objects outside of the release's namespace. It is the class's, so that helm refuses a second release for that class. */ -}}
{{- define "fly-tunnel-operator.clusterWideName" -}}
{{- include "fly-tunnel-operator.loadBalancerClass" . | replace "/" ":" -}}
{{- end }}

{{- define "fly-tunnel-operator.serviceAccountName" -}}
{{- $own := .Values.serviceAccount.create | ternary (include "fly-tunnel-operator.fullname" .) "default" -}}
{{- .Values.serviceAccount.name | default $own -}}
{{- end }}

{{- define "fly-tunnel-operator.tokenSecret" -}}
{{- .Values.existingSecret | default (printf "%s-fly-api-token" (include "fly-tunnel-operator.fullname" .)) -}}
{{- end }}

{{- define "fly-tunnel-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fly-tunnel-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- /* Labels that only the Deployment's pods have; the Job that drains has pods, too. */ -}}
{{- define "fly-tunnel-operator.operatorLabels" -}}
{{ include "fly-tunnel-operator.selectorLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "fly-tunnel-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "fly-tunnel-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* The operator's own default. */ -}}
{{- define "fly-tunnel-operator.defaultClass" -}}
fly-tunnel-operator.dev/lb
{{- end }}

{{- define "fly-tunnel-operator.loadBalancerClass" -}}
{{- .Values.loadBalancerClass | default (include "fly-tunnel-operator.defaultClass" .) -}}
{{- end }}

{{- /* The content of --frpc-pod-file: the values that are set, as JSON; empty if none is. */ -}}
{{- define "fly-tunnel-operator.frpcPod" -}}
{{- $set := dict -}}
{{- range $key, $value := .Values.frpc -}}
{{- /* The operator calls podLabels just labels. */ -}}
{{- if $value -}}{{- $_ := set $set ($key | trimPrefix "pod" | untitle) $value -}}{{- end -}}
{{- end -}}
{{- if $set -}}{{- $set | toJson -}}{{- end -}}
{{- end }}
