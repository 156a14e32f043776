using System.IO.Compression;
using System.Xml.Linq;
using Pandora.Linux;

namespace Pandora.Tests.Client;

/// <summary>The packages, made as a release makes them, and a program that uses them.</summary>
public sealed class PackageTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-packages").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task The_examples_compile_against_the_packages_for_each_framework()
    {
        foreach (var project in new[] { "Pandora.Contracts", "Pandora.Client", "Pandora.Extensions.AI" })
        {
            await DotnetAsync("pack", Path.Combine(Repository.Root, "src", project), "-c", "Release", "-o", _directory);
        }

        var client = Assert.Single(Directory.GetFiles(_directory, "Pandora.Client.*.nupkg"));
        Assert.Single(Directory.GetFiles(_directory, "Pandora.Client.*.snupkg"));
        using (var package = ZipFile.OpenRead(client))
        {
            var files = package.Entries.Select(e => e.FullName).ToHashSet();
            Assert.Superset(
                new HashSet<string>
                {
                    "README.md",
                    "lib/net8.0/Pandora.Client.dll",
                    "lib/net8.0/Pandora.Client.xml",
                    "lib/net10.0/Pandora.Client.dll",
                    "lib/net10.0/Pandora.Client.xml",
                },
                files);
            using var specification = new StreamReader(package.GetEntry("Pandora.Client.nuspec")!.Open());
            var text = await specification.ReadToEndAsync();
            Assert.Contains("""<license type="expression">MIT</license>""", text, StringComparison.Ordinal);
            Assert.Contains("""<dependency id="Pandora.Contracts" """, text, StringComparison.Ordinal);
        }

        var version = Path.GetFileNameWithoutExtension(client)["Pandora.Client.".Length..];
        await BuildAsync("Quickstart", ("Pandora.Client", version));
        await BuildAsync("Agent", ("Pandora.Extensions.AI", version), ("Microsoft.Extensions.AI", AgentsVersion));
    }

    private static string AgentsVersion =>
        XDocument.Parse(Repository.Read("Directory.Packages.props")).Descendants("PackageVersion")
            .Single(p => (string?)p.Attribute("Include") == "Microsoft.Extensions.AI").Attribute("Version")!.Value;

    private async Task BuildAsync(string example, params (string Name, string Version)[] packages)
    {
        // Outside of the checkout: nothing of its build properties holds there.
        var program = Directory.CreateDirectory(Path.Combine(_directory, example)).FullName;
        foreach (var file in Directory.GetFiles(Path.Combine(Repository.Root, "examples", example), "*.cs"))
        {
            File.Copy(file, Path.Combine(program, Path.GetFileName(file)));
        }

        await File.WriteAllTextAsync(Path.Combine(program, "program.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <TargetFrameworks>net8.0;net10.0</TargetFrameworks>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
                <TreatWarningsAsErrors>true</TreatWarningsAsErrors>
                <RestorePackagesPath>{_directory}/restored</RestorePackagesPath>
                <RestoreAdditionalProjectSources>{_directory}</RestoreAdditionalProjectSources>
              </PropertyGroup>
              <ItemGroup>
                {string.Join('\n', packages.Select(p => $"""<PackageReference Include="{p.Name}" Version="{p.Version}" />"""))}
              </ItemGroup>
            </Project>
            """);
        await DotnetAsync("build", program);
        Assert.True(File.Exists(Path.Combine(program, "bin/Debug/net8.0/program.dll")));
    }

    private static Task DotnetAsync(params string[] arguments) => Command.RunAsync("dotnet", [.. arguments, "-v", "q", "--nologo"]);
}
