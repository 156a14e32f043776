using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Pandora.Engine.Admission;
using Pandora.Engine.Guests;
using Pandora.Engine.Projects;

namespace Pandora.Engine.Sandboxes;

/// <summary>A client's request for a new sandbox. Null stands for the server's default.</summary>
/// <param name="IdleTimeout">Idle time in seconds after which the sandbox is ended.</param>
/// <param name="Template">Name of the template.</param>
/// <param name="Egress">What the guest may reach.</param>
/// <param name="Metadata">Names and values by which the client finds the sandbox again.</param>
/// <param name="IdempotencyKey">A key that the client chose: a second request with the same key gets the same sandbox.</param>
/// <param name="Size">The size of the microVM.</param>
public sealed record SandboxRequest(
    double? IdleTimeout = null,
    string? Template = null,
    Egress? Egress = null,
    IReadOnlyDictionary<string, string>? Metadata = null,
    string? IdempotencyKey = null,
    WantedSize? Size = null)
{
    /// <summary>Name of the project of the sandbox.</summary>
    public string Project { get; init; } = Projects.Project.DefaultName;

    /// <summary>What the guest may reach, with ranges; takes the place of <see cref="Egress"/>.</summary>
    public EgressPolicy? EgressRules { get; init; }

    /// <summary>Ports whose previews need neither key nor link.</summary>
    public IReadOnlyList<int>? PublicPorts { get; init; }

    /// <summary>Public keys that may log in by SSH, lines of <c>authorized_keys</c> without options.</summary>
    public IReadOnlyList<string>? SshKeys { get; init; }

    /// <summary>Time after which the sandbox ends even while it is busy: 1 s to 24 h. Without an idle timeout it then has none but
    /// <see cref="NoIdleTimeout"/>.</summary>
    public TimeSpan? EndsAfter { get; init; }

    /// <summary>What a front end keeps with the sandbox, at most 128 KiB. The engine never reads it.</summary>
    public IReadOnlyDictionary<string, string>? Annotations { get; init; }

    /// <summary>Whether to record what the guest uses: <see cref="Sandbox.Usage"/>.</summary>
    public bool RecordsUsage { get; init; }

    /// <summary>Idle timeout of a sandbox that has an end and asked for no idle timeout, in seconds: longer than any end.</summary>
    public const double NoIdleTimeout = 366 * 24 * 3600;

    /// <summary>Hash of the whole request without its key.</summary>
    public string Hash()
    {
        var text = new StringBuilder($"{IdleTimeout:R}\n{Template}\n{Egress}\n");
        if (Size is not null)
        {
            text.Append(CultureInfo.InvariantCulture, $"{Size}\n");
        }

        if (EgressRules is { } rules)
        {
            text.Append(CultureInfo.InvariantCulture, $"egress {rules.Default}\nallow ").AppendJoin(',', rules.Allow)
                .Append("\ndeny ").AppendJoin(',', rules.Deny).Append('\n');
        }

        if (PublicPorts is { Count: > 0 } ports)
        {
            text.Append("ports ").AppendJoin(',', ports.Distinct().Order()).Append('\n');
        }

        foreach (var key in SshKeys ?? [])
        {
            text.Append(CultureInfo.InvariantCulture, $"key {key?.Length}:{key}\n");
        }

        if (EndsAfter is { } end)
        {
            text.Append(CultureInfo.InvariantCulture, $"ends {end.Ticks}\n");
        }

        foreach (var (key, value) in (Metadata ?? new Dictionary<string, string>()).OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            text.Append(CultureInfo.InvariantCulture, $"{key.Length}:{key}{value.Length}:{value}");
        }

        foreach (var (key, value) in (Annotations ?? new Dictionary<string, string>()).OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            text.Append(CultureInfo.InvariantCulture, $"note {key.Length}:{key}{value.Length}:{value}");
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }
}

/// <summary>A new sandbox, and how the client got it.</summary>
/// <param name="Sandbox">The sandbox.</param>
/// <param name="IsWarm">Whether the claim found a warm microVM and did not wait.</param>
/// <param name="Elapsed">Time from the request to the end of the claim.</param>
/// <param name="IsReplayed">Whether an earlier request with the same idempotency key made it.</param>
public sealed record CreatedSandbox(Sandbox Sandbox, bool IsWarm, TimeSpan Elapsed, bool IsReplayed = false)
{
    /// <summary>How its microVM started; null when an earlier server started it.</summary>
    public PoolStart? Start => Sandbox.MicroVm.Start;
}

/// <summary>Checks the limits of requests before any other work.</summary>
internal static partial class RequestLimits
{
    public const int MaxCodeBytes = 1024 * 1024, MaxStdinBytes = 10 * 1024 * 1024, MaxEnvBytes = 64 * 1024, MaxMetadataBytes = 16 * 1024;
    public const int MaxCwdBytes = 4096, MaxIdempotencyKeyLength = 255;

    /// <summary>The kernel takes the number above it for "no user": setresuid(2).</summary>
    public const uint MaxUserNumber = uint.MaxValue - 1;

    public const int MaxTagLength = 256, MaxArguments = 10_000;
    public const double MinIdleTimeout = 10, MinTimeout = 1;

    // Variables that are read-only in bash: bash(1), Shell Variables.
    private static readonly string[] ReadOnlyVariables = ["BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"];

    public static void Check(SandboxRequest request, EngineOptions options, Project project)
    {
        if (request.IdempotencyKey is { } idempotencyKey
            && (idempotencyKey.Length is 0 or > MaxIdempotencyKeyLength || idempotencyKey.Any(c => c is < '!' or > '~')))
        {
            throw PandoraException.Invalid("Idempotency-Key", $"must be 1 to {MaxIdempotencyKeyLength} visible ASCII characters");
        }

        if (request.IdleTimeout is { } idle && !(idle >= MinIdleTimeout && idle <= options.LongestIdleTimeout))
        {
            throw PandoraException.Invalid(
                "idle_timeout", $"must be between {MinIdleTimeout:0} and {options.LongestIdleTimeout:0.#} seconds, and is {idle}");
        }

        if (request.EndsAfter is { } end)
        {
            CheckEnd(end);
        }

        CheckAnnotations(request.Annotations ?? new Dictionary<string, string>());
        if ((request.EgressRules ?? (request.Egress is { } asked ? new EgressPolicy(asked) : null)) is { } egress)
        {
            CheckEgress(egress, options, project, "leave egress out, or ask for 'none'");
        }

        CheckCeilings(request, project);
        CheckPublicPorts(request.PublicPorts ?? [], "public_ports");
        CheckSshKeys(request.SshKeys ?? [], "ssh_keys");
        var size = 0;
        foreach (var (key, value) in request.Metadata ?? new Dictionary<string, string>())
        {
            size += value is null
                ? throw PandoraException.Invalid("metadata", $"the value of '{key}' is null; values are text")
                : Encoding.UTF8.GetByteCount(key) + Encoding.UTF8.GetByteCount(value);
        }

        if (size > MaxMetadataBytes)
        {
            throw PandoraException.Invalid(
                "metadata", $"keys and values together must be at most {MaxMetadataBytes / 1024} KiB, and are {size} bytes");
        }
    }

    /// <summary>Checks the ranges, and the ceilings of the server and of the project.</summary>
    /// <param name="egress">What is asked for.</param>
    /// <param name="options">The server's ceiling.</param>
    /// <param name="project">The project.</param>
    /// <param name="advice">What the client can do instead.</param>
    public static void CheckEgress(EgressPolicy egress, EngineOptions options, Project project, string advice)
    {
        if (egress.Allow.Count + egress.Deny.Count is > EgressPolicy.MostRanges and var count)
        {
            throw PandoraException.Invalid(
                "egress", $"at most {EgressPolicy.MostRanges} ranges can be allowed and denied, and these are {count}");
        }

        if (egress.Limit(options.Egress) != egress)
        {
            throw new PandoraException(
                PandoraError.EgressForbidden, $"this server gives no sandbox more than egress 'none': {advice}", "egress");
        }

        if (egress.Limit(project.Egress) != egress)
        {
            throw new PandoraException(
                PandoraError.EgressForbidden,
                $"project '{project.Name}' gives no sandbox more than egress 'none': {advice}", "egress");
        }
    }

    private static void CheckCeilings(SandboxRequest request, Project project)
    {
        if (request.IdleTimeout > project.MaxLifetime)
        {
            throw new PandoraException(
                PandoraError.AboveCeiling,
                $"project '{project.Name}' lets a sandbox live for {project.MaxLifetime:0.#} s, and {request.IdleTimeout:0.#} s is more",
                "idle_timeout");
        }

        var template = request.Template ?? EngineOptions.DefaultTemplate;
        if (project.Templates is { } allowed && !allowed.Contains(template))
        {
            throw new PandoraException(
                PandoraError.AboveCeiling,
                allowed.Count == 0
                    ? $"project '{project.Name}' may start no sandbox"
                    : $"project '{project.Name}' may start sandboxes from {string.Join(", ", allowed)}, and not from '{template}'",
                "template");
        }
    }

    public static void Check(GuestCommand command, EngineOptions options)
    {
        CheckTimeout(command.Timeout, options);
        CheckText("code", command.Code, MaxCodeBytes);
        if (command.Stdin.Length > MaxStdinBytes)
        {
            throw PandoraException.Invalid("stdin", $"must be at most {MaxStdinBytes} bytes, and is {command.Stdin.Length}");
        }

        CheckSurroundings(command.Cwd, command.User, command.Env);
    }

    public static void Check(ProcessSpec spec, EngineOptions options)
    {
        if ((spec.Code is null) == (spec.Arguments.Count == 0))
        {
            throw PandoraException.Invalid("code", "either code or args must be given, and not both");
        }

        if (spec.TimeLimit is { } limit)
        {
            CheckTimeout(limit, options);
        }

        CheckText("code", spec.Code ?? "", MaxCodeBytes);
        if (spec.Arguments.Count > MaxArguments)
        {
            throw PandoraException.Invalid("args", $"must be at most {MaxArguments}, and are {spec.Arguments.Count}");
        }

        if (spec.Arguments.Contains(null!))
        {
            throw PandoraException.Invalid("args", "must be texts");
        }

        CheckText("args", string.Join(' ', spec.Arguments), MaxCodeBytes);
        if (spec.Arguments is ["", ..])
        {
            throw PandoraException.Invalid("args", "the first must name a program");
        }

        CheckText("tag", spec.Tag ?? "", 4 * MaxTagLength);
        CheckSurroundings(spec.Directory, spec.User, spec.Environment);
    }

    private static void CheckTimeout(TimeSpan timeout, EngineOptions options)
    {
        var (seconds, most) = (timeout.TotalSeconds, options.LongestTimeout);
        if (!(seconds >= MinTimeout && seconds <= most))
        {
            throw PandoraException.Invalid("timeout", $"must be between {MinTimeout:0} and {most:0.#} seconds, and is {seconds}");
        }
    }

    private static void CheckSurroundings(string? directory, string? name, IReadOnlyDictionary<string, string> environment)
    {
        CheckText("cwd", directory ?? "/", MaxCwdBytes);
        if (directory is "")
        {
            throw PandoraException.Invalid("cwd", "must not be empty; leave it out for the user's home");
        }

        CheckUser(name);
        var size = 0;
        foreach (var (variable, value) in environment)
        {
            if (!VariablePattern().IsMatch(variable))
            {
                throw PandoraException.Invalid("env", $"'{variable}' cannot be the name of an environment variable");
            }

            if (ReadOnlyVariables.Contains(variable))
            {
                throw PandoraException.Invalid("env", $"'{variable}' is read-only in bash");
            }

            if (value is null || value.Contains('\0'))
            {
                throw PandoraException.Invalid("env", $"the value of '{variable}' must be text without NUL");
            }

            size += Encoding.UTF8.GetByteCount(variable) + Encoding.UTF8.GetByteCount(value) + 2;
        }

        if (size > MaxEnvBytes)
        {
            throw PandoraException.Invalid("env", $"must be at most {MaxEnvBytes / 1024} KiB in all, and is {size} bytes");
        }
    }

    private static void CheckUser(string? user)
    {
        if (user is not null && !IsUser(user))
        {
            throw PandoraException.Invalid(
                "user",
                "must be a user name: lower-case letters, digits, hyphen and underscore, at most 32, not beginning with a digit or hyphen; "
                    + $"or a number up to {MaxUserNumber}");
        }
    }

    private static bool IsUser(string text) => UserPattern().IsMatch(text) || IsUserNumber(text);

    private static bool IsUserNumber(string user) =>
        user.Length <= 10
        && uint.TryParse(user, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
        && number <= MaxUserNumber;

    private static void CheckText(string field, string text, int maxBytes)
    {
        if (text.Contains('\0'))
        {
            throw PandoraException.Invalid(field, "must not contain a NUL character");
        }

        if (Encoding.UTF8.GetByteCount(text) is var size && size > maxBytes)
        {
            throw PandoraException.Invalid(field, $"must be at most {maxBytes} bytes of UTF-8, and is {size}");
        }
    }

    [GeneratedRegex("^[a-z_][a-z0-9_-]{0,31}\\z")]
    private static partial Regex UserPattern();

    [GeneratedRegex("^[A-Za-z_][A-Za-z0-9_]{0,255}\\z")]
    private static partial Regex VariablePattern();
}
