{{- /* What the schema could only tell in its own words: all that is missing or at odds, at once. */ -}}
{{- define "fly-tunnel-operator.validate" -}}
{{- $problems := list -}}
{{- if and .Values.flyApiToken .Values.existingSecret -}}
{{- $problems = append $problems "flyApiToken and existingSecret are both set: give one of them" -}}
{{- else if not (or .Values.flyApiToken .Values.existingSecret) -}}
{{- $problems = append $problems "flyApiToken is missing: give the Fly token (--set-literal flyApiToken=\"$(fly tokens create org)\"), or the name of a Secret that holds it under the key fly-api-token (--set existingSecret=NAME)" -}}
{{- end -}}
{{- if not .Values.flyOrg -}}
{{- $problems = append $problems "flyOrg is missing: give the Fly organisation that owns and pays for the tunnels (--set flyOrg=personal); `fly orgs list` shows yours" -}}
{{- end -}}
{{- if not .Values.flyRegion -}}
{{- $problems = append $problems "flyRegion is missing: give the Fly region that is next to you (--set flyRegion=ord); `fly platform regions` shows all" -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\n%s\n" (join "\n" $problems)) -}}
{{- end -}}
{{- end }}
