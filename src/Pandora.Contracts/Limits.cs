namespace Pandora.Contracts;

/// <summary>
/// The limits of what clients send: the one table of them. The attributes of the requests, and with them the API's description, the
/// CLI's checks and help, and <c>docs/reference.md</c> are made from it. The engine knows no contracts and has limits of its own, which
/// a test holds to these.
/// </summary>
public static class Limits
{
    /// <summary>Least seconds of idleness that a sandbox may ask for.</summary>
    public const double MinIdleTimeout = 10;

    /// <summary>
    /// Most seconds of idleness that a sandbox may ask for, and most seconds that a command may be given, where the server's operator sets
    /// no longest lifetime: 7 days. Where one is set, that is the most, unless the operator sets another cap of the idle time.
    /// </summary>
    public const double MaxTimeout = 7 * 24 * 3600;

    /// <summary>Seconds of idleness where a sandbox asks for none, unless the server's operator sets others.</summary>
    public const double DefaultIdleTimeout = 60;

    /// <summary>Least seconds that a command may be given.</summary>
    public const double MinExecTimeout = 1;

    /// <summary>Seconds that a command is given where none are asked for.</summary>
    public const double DefaultExecTimeout = 30;

    /// <summary>Most bytes of a command's shell text, as UTF-8.</summary>
    public const int MaxCodeBytes = 1024 * 1024;

    /// <summary>Most bytes of a command's standard input.</summary>
    public const int MaxStdinBytes = 10 * 1024 * 1024;

    /// <summary>Most bytes of a command's environment variables, names and values together.</summary>
    public const int MaxEnvBytes = 64 * 1024;

    /// <summary>Most bytes that are kept of each of a command's outputs.</summary>
    public const int MaxOutputBytes = 10 * 1024 * 1024;

    /// <summary>Most characters of a command's working directory, and most bytes as UTF-8.</summary>
    public const int MaxCwdLength = 4096;

    /// <summary>Most bytes of a file's path.</summary>
    public const int MaxPathBytes = 4095;

    /// <summary>Most entries of one page of a list of files.</summary>
    public const int MaxListedFiles = 10_000;

    /// <summary>Entries of one page of a list of files where none are asked for.</summary>
    public const int DefaultListedFiles = 1000;

    /// <summary>Most levels of directories of a list of files.</summary>
    public const int MaxListDepth = 64;

    /// <summary>Most characters of a user's name.</summary>
    public const int MaxUserLength = 32;

    /// <summary>Most characters of a process's tag.</summary>
    public const int MaxTagLength = 256;

    /// <summary>Most arguments of a process, its program among them.</summary>
    public const int MaxArguments = 10_000;

    /// <summary>Least seconds for which a link to a preview may be asked for.</summary>
    public const double MinLinkSeconds = 1;

    /// <summary>Most seconds for which a link to a preview may be asked for: 7 days.</summary>
    public const double MaxLinkSeconds = 7 * 24 * 3600;

    /// <summary>Seconds for which a link opens a preview where none are asked for.</summary>
    public const double DefaultLinkSeconds = 3600;

    /// <summary>Most public ports of a sandbox.</summary>
    public const int MaxPublicPorts = 64;

    /// <summary>Most SSH keys of a sandbox.</summary>
    public const int MaxSshKeys = 64;

    /// <summary>Most bytes of a sandbox's SSH keys in all.</summary>
    public const int MaxSshKeyBytes = 16 * 1024;

    /// <summary>Most characters of a template's name.</summary>
    public const int MaxTemplateLength = 63;

    /// <summary>Least memory of a sandbox, in MiB.</summary>
    public const int MinMemoryMib = 128;

    /// <summary>Most memory of a sandbox, in MiB.</summary>
    public const int MaxMemoryMib = 65536;

    /// <summary>Most virtual CPUs of a sandbox.</summary>
    public const int MaxVcpus = 32;

    /// <summary>Least size of a sandbox's disk, in MiB.</summary>
    public const int MinDiskMib = 64;

    /// <summary>Most size of a sandbox's disk, in MiB.</summary>
    public const int MaxDiskMib = 1024 * 1024;

    /// <summary>Most bytes of a sandbox's metadata, keys and values together, as UTF-8.</summary>
    public const int MaxMetadataBytes = 16 * 1024;

    /// <summary>Most characters of an idempotency key.</summary>
    public const int MaxIdempotencyKeyLength = 255;

    /// <summary>Most bytes of a request's body: the longest code and input with each byte escaped to six, and the rest.</summary>
    public const int MaxBodyBytes = (6 * (MaxCodeBytes + MaxStdinBytes)) + (1024 * 1024);

    /// <summary>Writes a number of bytes for people: <c>64 KiB</c>, <c>1 MiB</c>.</summary>
    public static string Size(long bytes) => bytes >= 1024 * 1024
        ? FormattableString.Invariant($"{bytes / (1024.0 * 1024):0.#} MiB")
        : FormattableString.Invariant($"{bytes / 1024.0:0.#} KiB");
}
