using System.Formats.Tar;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;

namespace Pandora.Tests.Vmm;

/// <summary>Installs releases that consist of two scripts with a version, from a server on loopback or from a file.</summary>
public sealed class FirecrackerInstallerTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    private static string Arch => RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "aarch64" : "x86_64";

    private string Installed => Path.Combine(_directory, "installed");

    private FirecrackerInstaller Installer => new(Installed, _ => { });

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_release_from_a_file_is_verified_and_becomes_the_current_one_and_so_does_the_next()
    {
        foreach (var version in new[] { "1.15.0", "1.16.1", "1.15.0" })
        {
            var archive = Archive(version);
            await File.WriteAllTextAsync(archive + ".sha256.txt", $"{Sum(archive)}  {Path.GetFileName(archive)}\n");
            Assert.Equal(new Version(version), (await Installer.InstallAsync(archive, null, null, default)).Version);
            Assert.Equal($"v{version}", File.ResolveLinkTarget(Path.Combine(Installed, "current"), false)!.Name);
            Assert.Equal(
                new Version(version),
                (
                    await FirecrackerBinaries.FindAsync(
                        Path.Combine(Installed, "current/firecracker"), Path.Combine(Installed, "current/jailer"), default)).Version);
        }

        Assert.Equal(["current", "v1.15.0", "v1.16.1"], Directory.GetFileSystemEntries(Installed).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task An_archive_that_differs_from_the_published_one_is_refused_and_the_installed_release_stays()
    {
        var good = Archive("1.16.1");
        await Installer.InstallAsync(good, Sum(good), null, default);
        async Task<string> RefusalAsync(string archive, string? sum, Version? expected = null) =>
            (await Assert.ThrowsAsync<VmmException>(() => Installer.InstallAsync(archive, sum, expected, default))).Message;
        Assert.Contains("nothing was installed: its SHA-256 is", await RefusalAsync(good, new string('0', 64)));
        Assert.Contains("there is no checksum", await RefusalAsync(good, null));
        Assert.Contains("there is no file", await RefusalAsync(Path.Combine(_directory, "none.tgz"), Sum(good)));
        Assert.Contains("1.17.0 was expected", await RefusalAsync(good, Sum(good), new Version(1, 17, 0)));
        var old = Archive("1.9.0");
        Assert.Contains("1.12.0 or later", await RefusalAsync(old, Sum(old)));
        var foreign = Archive("1.17.0", arch: "riscv64");
        Assert.Contains($"does not contain firecracker and jailer for {Arch}", await RefusalAsync(foreign, Sum(foreign)));
        var garbage = Path.Combine(_directory, "garbage.tgz");
        await File.WriteAllTextAsync(garbage, "no archive");
        Assert.Contains("is not a .tgz", await RefusalAsync(garbage, Sum(garbage)));
        Assert.Equal(["current", "v1.16.1"], Directory.GetFileSystemEntries(Installed).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task A_release_is_fetched_with_its_checksum_and_a_wrong_or_missing_checksum_installs_nothing()
    {
        var archive = Archive("1.16.1");
        var sum = Sum(archive);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        await using var app = builder.Build();
        app.MapGet($"/v1.16.1/firecracker-v1.16.1-{Arch}.tgz", () => Results.File(archive));
        app.MapGet($"/v1.16.1/firecracker-v1.16.1-{Arch}.tgz.sha256.txt", () => $"{sum}  firecracker-v1.16.1-{Arch}.tgz\n");
        await app.StartAsync();
        var source = app.Urls.Single();
        Assert.Contains(
            "there is no",
            (await Assert.ThrowsAsync<VmmException>(() => Installer.DownloadAsync(new Version(1, 18, 0), source, null, default))).Message);
        Assert.Contains(
            "nothing was installed",
            (
                await Assert.ThrowsAsync<VmmException>(() =>
                    Installer.DownloadAsync(new Version(1, 16, 1), source, new string('0', 64), default)
                )).Message);
        Assert.Contains(
            "could not be downloaded",
            (
                await Assert.ThrowsAsync<VmmException>(() =>
                    Installer.DownloadAsync(new Version(1, 16, 1), "http://127.0.0.1:1", null, default)
                )
            ).Message);
        Assert.Empty(Directory.GetFileSystemEntries(Installed));
        Assert.Equal(new Version(1, 16, 1), (await Installer.DownloadAsync(new Version(1, 16, 1), source, null, default)).Version);
        Assert.Equal(["current", "v1.16.1"], Directory.GetFileSystemEntries(Installed).Select(Path.GetFileName).Order());
    }

    private static string Sum(string path) => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(path)));

    private string Archive(string version, string? arch = null)
    {
        arch ??= Arch;
        var path = Path.Combine(_directory, $"{version}-{arch}.tgz");
        using var gzip = new GZipStream(File.Create(path), CompressionLevel.Fastest);
        using var tar = new TarWriter(gzip);
        foreach (var (program, name) in new[] { ("firecracker", "Firecracker"), ("jailer", "Jailer") })
        {
            tar.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, $"release-v{version}-{arch}/{program}-v{version}-{arch}")
            {
                DataStream = new MemoryStream(Encoding.ASCII.GetBytes($"#!/bin/sh\necho '{name} v{version}'\n")),
            });
        }

        // An entry whose path leads out of the directory. The installer must not write it there.
        tar.WriteEntry(new PaxTarEntry(TarEntryType.RegularFile, "../../evil") { DataStream = new MemoryStream("evil"u8.ToArray()) });
        return path;
    }
}
