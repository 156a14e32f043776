namespace Pandora.E2bTests;

/// <summary>A declared version of a client of E2B.</summary>
/// <param name="Package">The name under which npm installs it (<c>clients/package.json</c>).</param>
/// <param name="Shown">Its name and version in the matrix.</param>
internal sealed record Client(string Package, string Shown)
{
    /// <summary>The SDKs. Each runs every scenario but those of the command line.</summary>
    public static readonly IReadOnlyList<Client> Sdks = [new("e2b-2.45.0", "`e2b` 2.45.0"), new("e2b-2.51.0", "`e2b` 2.51.0")];

    /// <summary>The command line.</summary>
    public static readonly Client CommandLine = new("@e2b/cli", "`@e2b/cli` 2.19.0");
}
