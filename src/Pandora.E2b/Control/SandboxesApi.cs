using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Control;

/// <summary>The routes of the control API that make, show and end sandboxes. Both generations of E2B's clients are current.</summary>
internal static class SandboxesApi
{
    // Ends a sandbox that nobody uses before its time. E2B's own server knows no such header.
    private const string IdleHeader = "X-Pandora-Idle-Timeout";
    private const double DefaultTimeoutV1 = 15, DefaultTimeout = 300;
    private const int MaxRefresh = 3600, MaxMask = 255;

    public static void MapSandboxes(this IEndpointRouteBuilder routes)
    {
        routes.MapPost("/sandboxes", (HttpRequest r, ProjectSandboxes s, E2bOptions o, CancellationToken c) =>
            CreateAsync(r, s, o, DefaultTimeoutV1, c));
        routes.MapPost("/v2/sandboxes", (HttpRequest r, ProjectSandboxes s, E2bOptions o, CancellationToken c) =>
            CreateAsync(r, s, o, DefaultTimeout, c));
        routes.MapGet("/sandboxes", (HttpRequest r, HttpResponse a, ProjectSandboxes s) => SandboxList.List(r, a, s));
        routes.MapGet("/v2/sandboxes", (HttpRequest r, HttpResponse a, ProjectSandboxes s) => SandboxList.List(r, a, s));
        routes.MapGet("/sandboxes/{id}", GetAsync);
        routes.MapDelete("/sandboxes/{id}", DeleteAsync);
        routes.MapPost("/sandboxes/{id}/connect", ConnectAsync);
        routes.MapPost("/v2/sandboxes/{id}/connect", ConnectAsync);
        routes.MapPost("/sandboxes/{id}/timeout", SetTimeoutAsync);
        routes.MapPost("/sandboxes/{id}/refreshes", RefreshAsync);
        routes.MapPut("/sandboxes/{id}/network", SetNetworkAsync);
    }

    private static async Task<IResult> CreateAsync(
        HttpRequest request, ProjectSandboxes sandboxes, E2bOptions options, double timeout, CancellationToken cancellationToken)
    {
        var asked = await ControlRequest.ReadAsync(request, E2bJson.Default.NewSandbox);
        Refuse(asked);
        Check(asked);
        Dictionary<string, string> annotations = new()
        {
            [E2bSandbox.TokenKey] = E2bSandbox.NewToken(),
            [E2bSandbox.PortsKey] = asked.Network?.AllowPublicTraffic == false ? E2bSandbox.NewToken() : E2bSandbox.PublicPorts,
        };
        if (asked.EnvVars is { Count: > 0 } environment)
        {
            annotations[E2bSandbox.EnvironmentKey] = JsonSerializer.Serialize(environment, E2bJson.Default.DictionaryStringString);
        }

        if (asked.Network?.MaskRequestHost is { Length: > 0 } mask)
        {
            annotations[E2bSandbox.MaskKey] = mask;
        }

        var created = await sandboxes.CreateAsync(
            new SandboxRequest(IdleTimeoutOf(request), TemplateNames.Of(asked.TemplateId), Metadata: asked.Metadata)
            {
                EndsAfter = ControlRequest.TimeOf(asked.Timeout ?? timeout),
                EgressRules = Networks.PolicyOf(asked.Network, asked.AllowInternetAccess),
                Annotations = annotations,
                RecordsUsage = true,
            },
            cancellationToken);
        return ControlRequest.Json(Describe(created.Sandbox, options), E2bJson.Default.CreatedSandbox, StatusCodes.Status201Created);
    }

    private static double? IdleTimeoutOf(HttpRequest request)
    {
        var header = request.Headers[IdleHeader].ToString();
        if (header.Length == 0)
        {
            return null;
        }

        return double.TryParse(header, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var seconds)
            ? seconds
            : throw PandoraException.Invalid(IdleHeader, "must be a number of seconds");
    }

    // What is not done here is refused: a client must not believe that it has what it does not have.
    private static void Refuse(NewSandbox asked)
    {
        static bool IsGiven(JsonElement? value) =>
            value is { ValueKind: not JsonValueKind.Null and not JsonValueKind.Undefined };
        if (asked.AutoPause == true || asked.AutoResume?.Enabled == true)
        {
            throw PandoraException.Invalid("autoPause", "this server cannot pause sandboxes yet: leave it out, and the sandbox is killed");
        }

        if (asked.Secure == false)
        {
            throw PandoraException.Invalid("secure", "this server opens no sandbox without its access token: leave it out");
        }

        if (IsGiven(asked.Iam))
        {
            throw PandoraException.Invalid("iam", "this server issues no tokens to sandboxes: leave it out");
        }

        if (asked.VolumeMounts is { Length: > 0 })
        {
            throw PandoraException.Invalid("volumeMounts", "this server has no volumes yet: leave it out");
        }
    }

    // What each process, or each request to a port, would fail on later.
    private static void Check(NewSandbox asked)
    {
        foreach (var (name, value) in asked.EnvVars ?? [])
        {
            if (name.Length == 0 || char.IsAsciiDigit(name[0]) || !name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_'))
            {
                throw PandoraException.Invalid("envVars", $"'{name}' cannot be the name of an environment variable");
            }

            if (value is null || value.Contains('\0'))
            {
                throw PandoraException.Invalid("envVars", $"the value of '{name}' must be text without NUL");
            }
        }

        if (asked.Network?.MaskRequestHost is { } mask && (mask.Length > MaxMask || !mask.All(c => c is > ' ' and <= '~')))
        {
            throw PandoraException.Invalid("network.maskRequestHost", $"must be a host of at most {MaxMask} printable ASCII characters");
        }
    }

    private static IResult GetAsync(string id, ProjectSandboxes sandboxes, E2bOptions options)
    {
        var sandbox = sandboxes.Get(id);
        var shown = SandboxList.Describe(sandbox.Status) with
        {
            EnvdAccessToken = sandbox.Annotations.GetValueOrDefault(E2bSandbox.TokenKey),
            Domain = options.ShownDomain,
            AllowInternetAccess = sandbox.Status.Egress.Default == Egress.Internet,
            Network = Networks.Show(sandbox),
            Lifecycle = new Lifecycle(AutoResume: false, OnTimeout: "kill"),
        };
        return ControlRequest.Json(shown, E2bJson.Default.SandboxDetail);
    }

    private static async Task<IResult> DeleteAsync(string id, ProjectSandboxes sandboxes)
    {
        await sandboxes.DeleteAsync(id, complete: false);
        return TypedResults.NoContent();
    }

    private static async Task<IResult> ConnectAsync(
        string id, HttpRequest request, ProjectSandboxes sandboxes, E2bOptions options, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.Keepalive);
        var asked = await ControlRequest.ReadAsync(request, E2bJson.Default.ConnectSandbox, new ConnectSandbox());
        await sandbox.SetEndAsync(ControlRequest.TimeOf(asked.Timeout ?? DefaultTimeout), onlyExtend: true, cancellationToken);
        _ = await E2bSandbox.TokenOfAsync(sandbox, cancellationToken);
        return ControlRequest.Json(Describe(sandbox, options), E2bJson.Default.CreatedSandbox);
    }

    private static async Task<IResult> SetTimeoutAsync(
        string id, HttpRequest request, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.Keepalive);
        var asked = await ControlRequest.ReadAsync(request, E2bJson.Default.TimeoutChange);
        var timeout = ControlRequest.TimeOf(asked.Timeout ?? throw PandoraException.Invalid("timeout", "must be given"));
        await sandbox.SetEndAsync(timeout, onlyExtend: false, cancellationToken);
        return TypedResults.NoContent();
    }

    private static async Task<IResult> RefreshAsync(
        string id, HttpRequest request, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.Keepalive);
        var asked = await ControlRequest.ReadAsync(request, E2bJson.Default.Refresh, new Refresh());
        if (asked.Duration is not (null or (>= 0 and <= MaxRefresh)))
        {
            throw PandoraException.Invalid("duration", $"must be between 0 and {MaxRefresh} seconds, and is {asked.Duration}");
        }

        var duration = TimeSpan.FromSeconds(asked.Duration ?? DefaultTimeoutV1);
        await sandbox.SetEndAsync(duration, onlyExtend: true, cancellationToken);
        return TypedResults.NoContent();
    }

    private static async Task<IResult> SetNetworkAsync(
        string id, HttpRequest request, ProjectSandboxes sandboxes, EngineOptions egress, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, SandboxOperation.Egress);
        var asked = await ControlRequest.ReadAsync(request, E2bJson.Default.NetworkChange);
        if (asked.AllowPublicTraffic is not null || asked.MaskRequestHost is not null)
        {
            throw PandoraException.Invalid("allowPublicTraffic", "it and maskRequestHost can be set only when the sandbox is created");
        }

        var policy = Networks.PolicyOf(asked, asked.AllowInternetAccess) ?? new EgressPolicy(egress.DefaultEgress);
        await sandbox.SetEgressAsync(policy, cancellationToken);
        return TypedResults.NoContent();
    }

    private static CreatedSandbox Describe(Sandbox sandbox, E2bOptions options) => new(
        sandbox.Template, sandbox.Id, SandboxList.ClientId, E2bSandbox.EnvdVersion, TemplateNames.AliasOf(sandbox.Template),
        sandbox.Annotations[E2bSandbox.TokenKey], E2bSandbox.TrafficTokenOf(sandbox), options.ShownDomain);
}
